#include "serve/request_metrics.h"

#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "serve/api_error.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

void begin_metric(std::string& text, std::string_view name, std::string_view type,
                  std::string_view help) {
  fmt::format_to(std::back_inserter(text), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

/// A number that an engine reports of itself.
struct EngineMetric {
  std::string_view name, type, help;
  int64_t EngineStatus::*member;
};

constexpr EngineMetric kEngineMetrics[] = {
    {"dalle_queued_images", "gauge", "Images waiting for a slot in the batch.",
     &EngineStatus::queued},
    {"dalle_active_images", "gauge", "Images that are being generated.", &EngineStatus::active},
    {"dalle_image_slots", "gauge", "Images that can be generated at once.", &EngineStatus::slots},
    {"dalle_images_total", "counter", "Images that have been generated.", &EngineStatus::finished},
    {"dalle_canceled_images_total", "counter", "Images canceled because the client disconnected.",
     &EngineStatus::canceled},
    {"dalle_failed_images_total", "counter", "Images of requests that failed.",
     &EngineStatus::failed},
    {"dalle_codes_total", "counter", "Codes that have been generated.", &EngineStatus::codes},
};

/// "queue 0.001 s, generate 1.201 s, decode 0.013 s, encode 0.004 s"
std::string describe_times(const RequestTimes& times) {
  const auto& [queue, generate, decode] = times.generation;
  return fmt::format("queue {:.3f} s, generate {:.3f} s, decode {:.3f} s, encode {:.3f} s", queue,
                     generate, decode, times.encode_s);
}

}  // namespace

void RequestMetrics::count(const std::string& method, const std::string& route, int status,
                           double seconds) {
  // A client can make methods up.
  const bool is_known =
      method == "GET" || method == "HEAD" || method == "POST" || method == "OPTIONS";
  const std::lock_guard lock(mutex_);
  Durations& durations = requests_[{is_known ? method : "other", route, status}];
  ++durations.count;
  durations.seconds += seconds;
}

void RequestMetrics::record(const RequestTimes& times, HttpReply& reply) {
  reply.note(describe_times(times));
  const std::lock_guard lock(mutex_);
  ++generations_;
  sums_.generation.queue_s += times.generation.queue_s;
  sums_.generation.decode_s += times.generation.decode_s;
  sums_.generation.image_s += times.generation.image_s;
  sums_.encode_s += times.encode_s;
}

std::string RequestMetrics::text(std::span<const ServedModel> models) const {
  std::string text;
  const auto out = std::back_inserter(text);
  {
    const std::lock_guard lock(mutex_);
    begin_metric(text, "dalle_request_seconds", "summary",
                 "Request durations by method, route and status.");
    for (const auto& [key, durations] : requests_) {
      const auto& [method, route, status] = key;
      const std::string labels =
          fmt::format("method=\"{}\",route={},status=\"{}\"", method, json_text(route), status);
      fmt::format_to(out, "dalle_request_seconds_sum{{{}}} {}\n", labels, durations.seconds);
      fmt::format_to(out, "dalle_request_seconds_count{{{}}} {}\n", labels, durations.count);
    }
    begin_metric(text, "dalle_phase_seconds", "summary",
                 "Time spent in each phase of image requests.");
    const auto& [queue, generate, decode] = sums_.generation;
    for (const auto& [phase, seconds] :
         {std::pair("queue", queue), std::pair("generate", generate), std::pair("decode", decode),
          std::pair("encode", sums_.encode_s)}) {
      fmt::format_to(out, "dalle_phase_seconds_sum{{phase=\"{}\"}} {}\n", phase, seconds);
      fmt::format_to(out, "dalle_phase_seconds_count{{phase=\"{}\"}} {}\n", phase, generations_);
    }
  }
  for (const EngineMetric& metric : kEngineMetrics) {
    begin_metric(text, metric.name, metric.type, metric.help);
    for (const ServedModel& model : models)
      fmt::format_to(out, "{}{{model={}}} {}\n", metric.name, json_text(model.id),
                     model.engine->status().*metric.member);
  }
  return text;
}

}  // namespace dalle
