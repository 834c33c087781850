#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/utf8.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config/stages.h"
#include "experiment/report/run_report.h"
#include "experiment/report/run_samples.h"
#include "experiment/report/training_curves.h"
#include "report/charts.h"
#include "serve/api_error.h"
#include "serve/api_routes.h"
#include "serve/http/revalidation.h"
#include "train/run_folder.h"

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::string_view kRunsPath = "/v1/runs";

/// When a file was last written, in seconds since 1970; 0 if there is none.
int64_t written_at(const fs::path& file) {
  std::error_code missing;
  const auto time = fs::last_write_time(file, missing);
  if (missing) return 0;
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::file_clock::to_sys(time).time_since_epoch())
      .count();
}

std::vector<RunPaths> runs_in(const fs::path& folder) {
  std::vector<RunPaths> runs;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    const RunPaths run(entry.path());
    const std::string name = entry.path().filename().string();
    std::error_code ignored;  // what cannot be looked at is not shown
    if (first_invalid_utf8(name) == name.size() &&
        (fs::exists(run.config(), ignored) || fs::exists(run.metrics(), ignored)))
      runs.push_back(run);
  }
  return runs;
}

ordered_json images_json(const RunPaths& run, std::string_view stage) {
  ordered_json kinds = ordered_json::array();
  for (const SampleFile& sample : samples_of(run, stage)) {
    if (kinds.empty() || kinds.back()["kind"] != sample.kind)
      kinds.push_back({{"kind", sample.kind}, {"samples", ordered_json::array()}});
    kinds.back()["samples"].push_back({{"step", sample.step}, {"file", sample.file}});
  }
  return kinds;
}

ordered_json charts_json(const StageCurves& curves) {
  ordered_json charts = ordered_json::array();
  for (const CurveGroup& group : curves.groups) {
    ordered_json all = ordered_json::array();
    for (const ChartSeries& series : group.series) {
      ordered_json points = ordered_json::array();
      for (const ChartPoint& point : series.points) points.push_back({point.x, point.y});
      all.push_back({{"name", series.name}, {"points", std::move(points)}});
    }
    charts.push_back({{"name", group.name},
                      {"series", std::move(all)},
                      {"svg", line_chart(group.series, "step")}});
  }
  return charts;
}

double last_step(const StageCurves& curves) {
  double step = 0;
  for (const CurveGroup& group : curves.groups)
    for (const ChartSeries& series : group.series) step = std::max(step, series.points.back().x);
  return step;
}

/// A run between two requests.
struct ShownRun {
  explicit ShownRun(const RunPaths& run) : curves(run.metrics()) {}

  GrowingCurves curves;
  /// The captions of DALL-E's sample images, by row; none if the config cannot be read.
  ordered_json captions = ordered_json::array();
  int64_t config_written = 0;  ///< when the captions were read

  void update_captions(const RunPaths& run) {
    const int64_t written = written_at(run.config());
    if (std::exchange(config_written, written) == written) return;
    try {
      captions = load_experiment(run.config(), {}, ConfigUse::kShow).sample.captions;
    } catch (const Error& error) {
      log_warning("{}", error.what());
    }
  }
};

ordered_json run_json(const RunPaths& run, ShownRun& shown) {
  shown.update_captions(run);
  const std::vector<StageCurves> curves = shown.curves.read();
  ordered_json stages = ordered_json::array();
  for (const auto& [stage, name] : enum_names(Stage{})) {
    const auto found = std::ranges::find(curves, name, &StageCurves::stage);
    const bool has_curves = found != curves.end();
    ordered_json images = images_json(run, name);
    if (!has_curves && images.empty()) continue;
    stages.push_back({{"stage", name},
                      {"step", has_curves ? ordered_json(last_step(*found)) : ordered_json()},
                      {"images", std::move(images)},
                      {"charts", has_curves ? charts_json(*found) : ordered_json::array()}});
  }
  std::error_code ignored;
  return {{"id", run.root.filename().string()},
          {"updated", written_at(run.metrics())},
          {"captions", shown.captions},
          {"has_report", fs::exists(report_of_results(run.evaluation()), ignored)},
          {"stages", std::move(stages)}};
}

/// The content of a file that may be gone by now.
std::optional<std::string> read_if_there(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return std::nullopt;
  return read_file(file);
}

/// Reads the runs on a thread of its own, because files may be large, and their disk slow.
class ShownRuns {
 public:
  explicit ShownRuns(fs::path folder) : folder_(std::move(folder)) {}

  void answer(HttpRequest request, const std::shared_ptr<HttpReply>& reply) {
    boost::asio::post(reader_, [this, request = std::move(request), reply] {
      answer_errors(request.id, *reply, [&] { reply->send(answer_of(request)); });
    });
  }

 private:
  /// Errors in the files of a run are shown only to the operator of the server.
  HttpResponse answer_of(const HttpRequest& request) {
    try {
      const std::string_view path = request.path;
      HttpResponse response = path == kRunsPath ? list() : show(path.substr(kRunsPath.size() + 1));
      return response.status == 200 ? revalidated(request, std::move(response)) : response;
    } catch (const Error& error) {
      log_warning("{}", error.what());
      return error_response(500, "a file of the run cannot be read");
    }
  }

  HttpResponse list() {
    std::vector<std::pair<int64_t, std::string>> runs;
    for (const RunPaths& run : runs_in(folder_))
      runs.emplace_back(written_at(run.metrics()), run.root.filename().string());
    std::ranges::sort(runs, std::greater());
    ordered_json data = ordered_json::array();
    for (const auto& [updated, name] : runs) data.push_back({{"id", name}, {"updated", updated}});
    return json_response({{"object", "list"}, {"data", std::move(data)}});
  }

  /// @param path  what follows /v1/runs/
  HttpResponse show(std::string_view path) {
    const std::string_view name = path.substr(0, path.find('/'));
    const std::vector<RunPaths> runs = runs_in(folder_);
    const auto run = std::ranges::find_if(
        runs, [&](const RunPaths& one) { return one.root.filename().string() == name; });
    if (run == runs.end()) return error_response(404, "there is no such run");
    path.remove_prefix(name.size());
    if (path.empty()) return show_run(*run);
    if (path == "/report.html") return show_report(*run);
    return show_image(*run, path);
  }

  HttpResponse show_run(const RunPaths& run) {
    const auto shown = shown_.try_emplace(run.root.filename().string(), run).first;
    return json_response(run_json(run, shown->second));
  }

  static HttpResponse show_report(const RunPaths& run) {
    auto content = read_if_there(report_of_results(run.evaluation()));
    if (!content) return error_response(404, "the run has no report yet");
    return {.content_type = "text/html; charset=utf-8",
            .body = std::move(*content),
            .headers = {{"content-security-policy",
                         "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
                         "frame-ancestors 'none'"}}};
  }

  /// @param path  /images/STAGE/FILE
  static HttpResponse show_image(const RunPaths& run, std::string_view path) {
    for (const auto& [stage, name] : enum_names(Stage{})) {
      const std::string folder = "/images/" + std::string(name) + "/";
      if (!path.starts_with(folder)) continue;
      for (const SampleFile& sample : samples_of(run, name)) {
        if (sample.file != path.substr(folder.size())) continue;
        if (auto content = read_if_there(run.samples() / name / sample.file))
          return {.content_type = "image/png", .body = std::move(*content)};
      }
    }
    return error_response(404, "the run has no such image");
  }

  fs::path folder_;
  std::map<std::string, ShownRun> shown_;  ///< by name; used only by the reader
  boost::asio::thread_pool reader_{1};
};

}  // namespace

void add_run_routes(Routes& routes, const fs::path& runs) {
  const auto shown = std::make_shared<ShownRuns>(runs);
  const auto answer = [shown](HttpRequest request, const std::shared_ptr<HttpReply>& reply) {
    shown->answer(std::move(request), reply);
  };
  routes.add("GET", std::string(kRunsPath), answer);
  routes.add("GET", std::string(kRunsPath) + "/*", answer);
}

}  // namespace dalle
