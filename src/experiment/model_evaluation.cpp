#include "experiment/model_evaluation.h"

#include <cmath>
#include <utility>

#include "core/build_info.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "experiment/evaluation_suites.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// Why a suite cannot be run; empty if it can.
std::string obstacle_to(EvaluationSuite suite, const EvaluatedModel& model) {
  const bool needs_transformer =
      suite == EvaluationSuite::kLikelihood || suite == EvaluationSuite::kShapes;
  if (needs_transformer && !model.dalle)
    return fmt::format("{} contains a dVAE but no transformer; train the stage dalle first",
                       model.checkpoint.string());
  if (suite == EvaluationSuite::kShapes && model.config.data.kind != DatasetKind::kShapes)
    return fmt::format("the data of {} is of kind {}, expected shapes", model.checkpoint.string(),
                       to_string(model.config.data.kind));
  return "";
}

/// The requested suites, or all possible ones if none is.
std::vector<EvaluationSuite> suites_to_run(const EvaluatedModel& model,
                                           const std::vector<EvaluationSuite>& requested) {
  for (const EvaluationSuite suite : requested)
    if (const std::string obstacle = obstacle_to(suite, model); !obstacle.empty())
      throw Error("--suite {}: {}", to_string(suite), obstacle);
  if (!requested.empty()) return requested;
  std::vector<EvaluationSuite> possible;
  for (const auto& [suite, name] : enum_names(EvaluationSuite{}))
    if (obstacle_to(suite, model).empty()) possible.push_back(suite);
  return possible;
}

ordered_json run_suite(EvaluationSuite suite, EvaluatedModel& model, const EvaluationData& data,
                       const CheckStop& check_stop) {
  switch (suite) {
    case EvaluationSuite::kReconstruction:
      return evaluate_reconstruction(model, data, check_stop);
    case EvaluationSuite::kCodes:
      return evaluate_codes(model, data, check_stop);
    case EvaluationSuite::kLikelihood:
      return evaluate_likelihood(model, data, check_stop);
    case EvaluationSuite::kShapes:
      return evaluate_shapes(model, data, check_stop);
  }
  throw Error("unknown suite {}", static_cast<int>(suite));
}

/// What must be the same for results to be added to an existing file.
ordered_json identity_of(const EvaluatedModel& model, const EvaluationData& data) {
  const c10::Device device = model.vae->parameters().front().device();
  return {{"checkpoint", model.checkpoint.filename().string()},
          {"manifest", model.hash},
          {"step", model.step},
          {"validation_images", data.size()},
          {"data", data.fingerprint()},
          {"device", c10::DeviceTypeName(device.type(), /*lower_case=*/true)},
          {"precision", to_string(model.precision)},
          {"dalle", build_info().version},
          {"revision", build_info().git_revision}};
}

/// Gives a results file the first free name of evaluation-1.json, evaluation-2.json, ...
void move_aside(const fs::path& file) {
  fs::path aside;
  for (int64_t n = 1; aside.empty() || fs::exists(aside); ++n)
    aside = file.parent_path() /
            fmt::format("{}-{}{}", file.stem().string(), n, file.extension().string());
  log_info("{} has results of another model, data set or build; it is now {}", file.string(),
           aside.string());
  fs::rename(file, aside);
}

/// The suites that a results file contains for this model. A file of another one is moved aside.
ordered_json finished_suites(const fs::path& file, const ordered_json& identity) {
  if (!fs::exists(file)) return ordered_json::object();
  const ordered_json found =
      ordered_json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!found.is_object() || !found.contains("suites") || !found.at("suites").is_object())
    throw Error("{}: not a results file; choose another file with --out, or remove it",
                file.string());
  if (found.value("model", ordered_json()) == identity) return found.at("suites");
  move_aside(file);
  return ordered_json::object();
}

/// JSON has no such numbers, and they mean that the model is broken.
void require_finite(const std::string& suite, const ordered_json& metrics) {
  for (const auto& [name, metric] : metrics.items())
    if (metric.is_object() && metric.contains("value") &&
        !std::isfinite(metric.at("value").get<double>()))
      throw Error("--suite {}: {} is {}, expected a finite number", suite, name,
                  metric.at("value").get<double>());
}

}  // namespace

EvaluatedModel load_evaluated_model(const fs::path& path, c10::Device device) {
  if (const std::optional<TrainedDvae> dvae = load_trained_dvae(path, device))
    return {.checkpoint = dvae->checkpoint,
            .hash = dvae->hash,
            .step = dvae->step,
            .config = dvae->config,
            .precision = dvae->precision,
            .vae = dvae->vae,
            .dalle = std::nullopt};
  const TrainedDalle dalle = load_trained_dalle(path, device);
  return {.checkpoint = dalle.checkpoint,
          .hash = dalle.hash,
          .step = dalle.step,
          .config = dalle.config,
          .precision = dalle.model->precision(),
          .vae = dalle.vae,
          .dalle = dalle};
}

fs::path run_of_model(const fs::path& path) {
  fs::path folder = fs::absolute(path).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();  // a trailing slash
  const auto is_stage = [](const fs::path& p) {
    return p.filename() == "dvae" || p.filename() == "dalle";
  };
  if (is_stage(folder.parent_path())) folder = folder.parent_path();
  if (is_stage(folder)) folder = folder.parent_path();
  return folder.filename() == "checkpoints" ? folder.parent_path() : path;
}

ordered_json evaluate_model(EvaluatedModel& model, const ModelEvaluationOptions& options,
                            const CheckStop& check_stop) {
  const std::vector<EvaluationSuite> suites = suites_to_run(model, options.suites);
  const FileLock lock(fs::path(options.out) += ".lock");
  const EvaluationData data(model, options.limit);
  ordered_json result{{"model", identity_of(model, data)}, {"suites", ordered_json::object()}};
  result["suites"] = finished_suites(options.out, result["model"]);
  for (const EvaluationSuite suite : suites) {
    const std::string name(to_string(suite));
    if (result["suites"].contains(name) && !options.restart) {
      log_info("{}: already in {} (--restart recomputes it)", name, options.out.string());
      continue;
    }
    const ordered_json metrics = run_suite(suite, model, data, check_stop);
    require_finite(name, metrics);
    result["suites"][name] = metrics;
    write_file_atomically(options.out, result.dump(2) + "\n");
  }
  return result;
}

std::string evaluation_table(const ordered_json& evaluation) {
  std::string table;
  for (const auto& [suite, metrics] : evaluation.at("suites").items())
    for (const auto& [name, metric] : metrics.items()) {
      if (!metric.is_object() || !metric.contains("value")) continue;
      table +=
          fmt::format("{:<15} {:<33} {:>10.4f}", suite, name, metric.at("value").get<double>());
      if (metric.contains("low"))
        table += fmt::format("  ({:.4f} to {:.4f})", metric.at("low").get<double>(),
                             metric.at("high").get<double>());
      table += "\n";
    }
  return table;
}

}  // namespace dalle
