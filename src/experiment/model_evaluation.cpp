#include "experiment/model_evaluation.h"

#include <set>
#include <utility>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/build_info.h"
#include "core/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "experiment/evaluation_suites.h"
#include "tensor/named_tensors.h"
#include "train/run_folder.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

bool is_dvae_checkpoint(const fs::path& path) {
  return fs::exists(path / Manifest::kFileName) &&
         !read_manifest(path).files.contains(kTokenizerFile);
}

/// The dVAE checkpoint that `path` refers to; nothing if it refers to one of the stage dalle.
std::optional<CheckpointContent> read_dvae(const fs::path& path) {
  const std::set<std::string> parts = {kEmaTensors, kConfigFile};
  if (is_dvae_checkpoint(path)) return read_checkpoint(path, parts);
  if (!checkpoints_in(RunPaths(path).checkpoints("dalle")).empty()) return std::nullopt;
  for (const fs::path& folder : {RunPaths(path).checkpoints("dvae"), path})
    if (const auto found = checkpoints_in(folder);
        !found.empty() && is_dvae_checkpoint(found.front()))
      return read_newest_checkpoint(folder, parts);
  return std::nullopt;
}

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
  return {{"checkpoint", model.checkpoint.filename().string()},
          {"manifest", model.hash},
          {"step", model.step},
          {"validation_images", data.size()},
          {"dalle", build_info().version}};
}

/// The suites that a results file contains for this model; empty if it is for another model.
ordered_json finished_suites(const fs::path& file, const ordered_json& identity) {
  if (!fs::exists(file)) return ordered_json::object();
  const ordered_json found =
      ordered_json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!found.is_object() || !found.contains("suites") || !found.at("suites").is_object())
    throw Error("{}: not a results file; choose another file with --out, or remove it",
                file.string());
  return found.value("model", ordered_json()) == identity ? found.at("suites")
                                                          : ordered_json::object();
}

}  // namespace

EvaluatedModel load_evaluated_model(const fs::path& path, c10::Device device) {
  const std::optional<CheckpointContent> dvae = read_dvae(path);
  if (!dvae) {
    TrainedDalle dalle = load_trained_dalle(path, device);
    return {.checkpoint = dalle.checkpoint,
            .hash = dalle.hash,
            .step = dalle.step,
            .config = dalle.config,
            .vae = dalle.vae,
            .dalle = std::move(dalle)};
  }
  const auto config = load_config_text<ExperimentConfig>(dvae->files.at(kConfigFile),
                                                         (dvae->path / kConfigFile).string());
  DiscreteVae vae(config.dvae.model, Precision::kFloat32);
  load_weights(*vae, dvae->tensors.at(kEmaTensors), tensors_file(dvae->path, kEmaTensors).string());
  vae->to(device);
  return {.checkpoint = dvae->path,
          .hash = sha256_of_file(dvae->path / Manifest::kFileName),
          .step = dvae->step,
          .config = config,
          .vae = vae,
          .dalle = std::nullopt};
}

fs::path run_of_model(const fs::path& path) {
  for (fs::path folder = path; folder.has_relative_path(); folder = folder.parent_path())
    if (folder.filename() == "checkpoints") return folder.parent_path();
  return path;
}

ordered_json evaluate_model(EvaluatedModel& model, const ModelEvaluationOptions& options,
                            const CheckStop& check_stop) {
  const std::vector<EvaluationSuite> suites = suites_to_run(model, options.suites);
  const EvaluationData data(model, options.limit);
  ordered_json result{{"model", identity_of(model, data)}, {"suites", ordered_json::object()}};
  result["suites"] = finished_suites(options.out, result["model"]);
  for (const EvaluationSuite suite : suites) {
    const std::string name(to_string(suite));
    if (result["suites"].contains(name) && !options.restart) {
      log_info("{}: already in {} (--restart recomputes it)", name, options.out.string());
      continue;
    }
    result["suites"][name] = run_suite(suite, model, data, check_stop);
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
