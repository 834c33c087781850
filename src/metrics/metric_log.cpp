#include "metrics/metric_log.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/seconds.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kStage = "stage";
constexpr std::string_view kStep = "step";
constexpr std::string_view kTime = "time";
constexpr const char* kWritten = "unix_s";  // within kTime

void append_members(std::string& line, std::span<const Metric> metrics) {
  for (const Metric& metric : metrics) {
    DALLE_CHECK(metric.name != kStage && metric.name != kStep && metric.name != kTime);
    if (line.back() != '{') line += ',';
    line += json(metric.name).dump() + ":";
    line += std::isfinite(metric.value) ? fmt::format("{}", metric.value) : "null";
  }
}

/// The step of a line, if it is one of the stage.
std::optional<int64_t> step_in(std::string_view line, std::string_view stage) {
  const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!entry.is_object() || !entry.contains(kStage) || !entry[kStage].is_string() ||
      !entry.contains(kStep) || !entry[kStep].is_number_integer())
    throw Error("found {:?}, expected {{\"stage\": ..., \"step\": ..., ...}}", line);
  if (entry[kStage] != stage) return std::nullopt;
  return entry[kStep].get<int64_t>();
}

/// The content without the lines that the resumed run writes again.
std::string keep_lines(std::string_view content, std::string_view stage,
                       const MetricPosition& resume, const fs::path& path) {
  std::string kept;
  int64_t lines_of_step = 0;
  int64_t number = 1;
  for (size_t begin = 0, end; (end = content.find('\n', begin)) != std::string_view::npos;
       begin = end + 1, ++number) {
    try {
      const auto step = step_in(content.substr(begin, end - begin), stage);
      if (step == resume.step) ++lines_of_step;
      if (!step || *step < resume.step || (step == resume.step && lines_of_step <= resume.lines))
        kept += content.substr(begin, end + 1 - begin);
    } catch (const Error& error) {
      throw Error("{}:{}: {}", path.string(), number, error.what());
    }
  }
  return kept;
}

/// Drops the lines that the resumed run writes again, and returns the path.
fs::path cut_back(const fs::path& path, std::string_view stage, const MetricPosition& resume) {
  make_directories(path.parent_path());
  if (!fs::exists(path)) return path;
  const std::string content = read_file(path);
  const std::string kept = keep_lines(content, stage, resume, path);
  if (kept.size() != content.size()) write_file_atomically(path, kept);
  return path;
}

}  // namespace

std::string console_line(int64_t step, std::span<const Metric> metrics,
                         std::span<const Metric> timings) {
  std::string line = fmt::format("step {}", step);
  std::string group;
  for (const std::span<const Metric> list : {metrics, timings}) {
    for (const Metric& metric : list) {
      if (metric.console.empty()) continue;
      const bool joins = !group.empty() && metric.name.starts_with(group + "/");
      if (!joins) group = metric.name;
      line += joins ? " " : " | ";
      line += fmt::format(fmt::runtime(metric.console), metric.value);
    }
    group.clear();
  }
  return line;
}

std::string json_line(std::string_view stage, int64_t step, std::span<const Metric> metrics,
                      std::span<const Metric> timings) {
  std::string line = fmt::format("{{\"stage\":{},\"step\":{}", json(stage).dump(), step);
  append_members(line, metrics);
  if (!timings.empty()) {
    line += ",\"time\":{";
    append_members(line, timings);
    line += '}';
  }
  return line += '}';
}

void for_each_metric_line(const fs::path& metrics,
                          const std::function<void(const nlohmann::ordered_json&)>& use) {
  MetricProgress from_the_start;
  for_each_new_metric_line(metrics, from_the_start, use);
}

bool for_each_new_metric_line(const fs::path& metrics, MetricProgress& progress,
                              const std::function<void(const nlohmann::ordered_json&)>& use) {
  if (!fs::exists(metrics)) return progress.bytes == 0;
  const std::string content = read_file(metrics, progress.bytes - progress.last_line.size());
  if (!content.starts_with(progress.last_line)) return false;
  for (size_t begin = progress.last_line.size(), end;
       (end = content.find('\n', begin)) != std::string::npos; begin = end + 1) {
    use(nlohmann::ordered_json::parse(content.begin() + static_cast<ptrdiff_t>(begin),
                                      content.begin() + static_cast<ptrdiff_t>(end), nullptr,
                                      /*allow_exceptions=*/false));
    progress.last_line = content.substr(begin, end + 1 - begin);
    progress.bytes += progress.last_line.size();
  }
  return true;
}

std::optional<double> last_written(const fs::path& metrics, std::string_view stage) {
  if (!fs::exists(metrics)) return std::nullopt;
  const std::string content = read_file(metrics);
  for (size_t end = content.rfind('\n'); end != std::string::npos && end > 0;) {
    const size_t before = content.rfind('\n', end - 1);
    const size_t begin = before == std::string::npos ? 0 : before + 1;
    const json line = json::parse(content.substr(begin, end - begin), nullptr,
                                  /*allow_exceptions=*/false);
    if (line.is_object() && line.contains(kStage) && line[kStage] == stage) {
      const json time = line.value(kTime, json::object());
      if (!time.is_object() || !time.contains(kWritten) || !time[kWritten].is_number())
        return std::nullopt;
      return time[kWritten].get<double>();
    }
    end = before;
  }
  return std::nullopt;
}

MetricLog::MetricLog(const fs::path& metrics, const fs::path& events, std::string_view stage,
                     const MetricPosition& resume)
    : stage_(stage),
      last_(resume),
      path_(cut_back(metrics, stage, resume)),
      events_(events, resume.step),
      file_(path_, std::ios::binary | std::ios::app) {
  if (!file_) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

void MetricLog::write(int64_t step, std::span<const Metric> metrics,
                      std::span<const Metric> timings) {
  log_info("{}", console_line(step, metrics, timings));
  std::vector<Metric> times(timings.begin(), timings.end());
  times.push_back({kWritten, std::round(1e3 * seconds_since_epoch()) / 1e3});
  file_ << json_line(stage_, step, metrics, times) + "\n";
  file_.flush();
  if (!file_) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
  last_ = {.step = step, .lines = lines_of(step) + 1};
  for (const Metric& metric : metrics) events_.scalar(step, metric.name, metric.value);
  for (const Metric& timing : timings) events_.scalar(step, "time/" + timing.name, timing.value);
}

void MetricLog::image(int64_t step, std::string_view name, const PngImage& png) {
  events_.image(step, name, png);
}

int64_t MetricLog::sync(int64_t step) {
  flush_to_disk(path_);
  flush_to_disk(events_.path());
  return lines_of(step);
}

}  // namespace dalle
