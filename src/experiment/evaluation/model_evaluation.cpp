#include "experiment/evaluation/model_evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "core/build_info.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/shell_word.h"
#include "data/image/image.h"
#include "dist/agreement.h"
#include "experiment/config/model_files.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/report/run_report.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_clip.h"
#include "tensor/device_of.h"
#include "train/chunked_work.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

bool compares_images(EvaluationSuite suite) {
  return suite == EvaluationSuite::kFrechet || suite == EvaluationSuite::kMemorization;
}

bool needs_shapes(EvaluationSuite suite) {
  return suite == EvaluationSuite::kShapes || suite == EvaluationSuite::kCompletion ||
         suite == EvaluationSuite::kLevels;
}

bool generates_images(EvaluationSuite suite) {
  return needs_shapes(suite) || compares_images(suite) || suite == EvaluationSuite::kBestOf;
}

/// The contrastive model of the suite best_of, which needs model.dalle.
fs::path contrastive_model(const EvaluatedModel& model, const ModelEvaluationOptions& options) {
  return options.reranker.empty() ? clip_folder(model.dalle->checkpoint) : options.reranker;
}

/// Whether an extractor is a contrastive model rather than a TorchScript file.
bool is_contrastive(const fs::path& extractor) {
  return fs::is_directory(followed(extractor));
}

/// Why a suite cannot be run; empty if it can.
std::string obstacle_to(EvaluationSuite suite, const EvaluatedModel& model,
                        const ModelEvaluationOptions& options) {
  const bool needs_transformer =
      suite != EvaluationSuite::kReconstruction && suite != EvaluationSuite::kCodes;
  if (needs_transformer && !model.dalle)
    return fmt::format("{} contains a dVAE but no transformer; train the dalle stage first",
                       model.checkpoint.string());
  if (needs_shapes(suite) && model.config.data.kind != DatasetKind::kShapes)
    return fmt::format("the data of {} is of kind {}, expected shapes", model.checkpoint.string(),
                       to_string(model.config.data.kind));
  if (suite == EvaluationSuite::kBestOf && options.reranker.empty() &&
      checkpoints_in(clip_folder(model.dalle->checkpoint)).empty())
    return fmt::format(
        "{} holds no contrastive model; train the clip stage first, or give --reranker",
        clip_folder(model.dalle->checkpoint).string());
  if (suite == EvaluationSuite::kLevels && !model.config.data.shapes.hold_out)
    return fmt::format(
        "{} was trained with data.shapes.hold_out: false, so it has seen what the "
        "levels test",
        model.checkpoint.string());
  return "";
}

/// Why a suite cannot be run on the data; empty if it can.
std::string obstacle_to(EvaluationSuite suite, const EvaluationData& data) {
  if (suite == EvaluationSuite::kRanking && !data.captions_differ()) {
    const int64_t images = std::min(data.size(), kMaxRankedImages);
    return fmt::format("found only one caption in {} validation image{}, expected several", images,
                       images == 1 ? "" : "s");
  }
  if (compares_images(suite) && data.size() < kMinComparedImages)
    return fmt::format("found {} validation image{}, expected at least {}", data.size(),
                       data.size() == 1 ? "" : "s", kMinComparedImages);
  return "";
}

/// The requested suites, or all possible ones if none is.
std::vector<EvaluationSuite> suites_to_run(const EvaluatedModel& model,
                                           const ModelEvaluationOptions& options) {
  for (const EvaluationSuite suite : options.suites)
    if (const std::string obstacle = obstacle_to(suite, model, options); !obstacle.empty())
      throw Error("--suite {}: {}", to_string(suite), obstacle);
  if (!options.suites.empty()) return options.suites;
  std::vector<EvaluationSuite> possible;
  for (const auto& [suite, name] : enum_names(EvaluationSuite{}))
    if (obstacle_to(suite, model, options).empty()) possible.push_back(suite);
  return possible;
}

constexpr auto kSuites = std::to_array<std::pair<EvaluationSuite, Suite*>>(
    {{EvaluationSuite::kReconstruction, evaluate_reconstruction},
     {EvaluationSuite::kCodes, evaluate_codes},
     {EvaluationSuite::kLikelihood, evaluate_likelihood},
     {EvaluationSuite::kRanking, evaluate_ranking},
     {EvaluationSuite::kShapes, evaluate_shapes},
     {EvaluationSuite::kCompletion, evaluate_completion},
     {EvaluationSuite::kLevels, evaluate_levels},
     {EvaluationSuite::kFrechet, evaluate_frechet},
     {EvaluationSuite::kMemorization, evaluate_memorization},
     {EvaluationSuite::kBestOf, evaluate_best_of}});

Suite* function_of(EvaluationSuite suite) {
  const auto found = std::ranges::find(kSuites, suite, &decltype(kSuites)::value_type::first);
  DALLE_CHECK(found != kSuites.end());
  return found->second;
}

ordered_json settings_of(const SamplingConfig& sampling) {
  ordered_json settings;
  SamplingConfig::fields(
      sampling, [&](std::string_view key, auto value, const Field&) { settings[key] = value; });
  return settings;
}

/// What must be the same for results to be added to an existing file.
ordered_json identity_of(const EvaluatedModel& model, const EvaluationData& data,
                         const Extractor& extractor) {
  const c10::Device device = device_of(*model.vae);
  ordered_json identity = {{"checkpoint", model.checkpoint.filename().string()},
                           {"manifest", model.hash},
                           {"step", model.step},
                           {"validation_images", data.size()},
                           {"generated_images", data.images_to_generate()},
                           {"data", data.fingerprint()},
                           {"sampling", settings_of(model.config.sample)},
                           {"device", c10::DeviceTypeName(device.type(), /*lower_case=*/true)},
                           {"dalle", build_info().version},
                           {"revision", build_info().git_revision}};
  if (extractor.space) identity["extractor"] = extractor.space->hash;
  return identity;
}

/// Gives a results file the first free name of evaluation-1.json, evaluation-2.json, ...
void move_aside(const fs::path& file) {
  fs::path aside;
  for (int64_t n = 1; aside.empty() || fs::exists(aside) || fs::exists(images_of_results(aside));
       ++n)
    aside = file.parent_path() /
            fmt::format("{}-{}{}", file.stem().string(), n, file.extension().string());
  log_info(
      "{} has results for a different model, data set, build or settings; it has been renamed to "
      "{}",
      file.string(), aside.string());
  fs::rename(file, aside);
  if (fs::exists(images_of_results(file)))
    fs::rename(images_of_results(file), images_of_results(aside));
}

/// The suites that a results file contains for this model. A file of another one is moved aside.
ordered_json finished_suites(const fs::path& file, const ordered_json& identity) {
  const ordered_json found = read_results(file);
  if (found.is_null()) return ordered_json::object();
  if (found.at("model") == identity) return found.at("suites");
  move_aside(file);
  return ordered_json::object();
}

/// @throws dalle::Error if no suite uses the extractor, or as torchscript_space() or
///         load_trained_clip() does
Extractor extractor_for(const std::vector<EvaluationSuite>& suites, const EvaluatedModel& model,
                        const fs::path& file) {
  if (file.empty()) return {};
  if (!std::ranges::any_of(suites, compares_images) &&
      !(is_contrastive(file) && std::ranges::count(suites, EvaluationSuite::kBestOf)))
    throw Error(
        "--extractor {}: requires --suite frechet or memorization (or best_of, if the extractor is "
        "the folder of a contrastive model)",
        file.string());
  const c10::Device device = device_of(*model.vae);
  if (!is_contrastive(file))
    return {.space = torchscript_space(file, device, model.config.data.image_size)};
  TrainedClip clip = load_trained_clip(file, device, Precision::kFloat32);
  require_readable(clip, model.config.data.image_size, model.checkpoint);
  Extractor extractor{.space = clip_space(clip)};
  extractor.clip = std::move(clip);
  return extractor;
}

/// Before suites that take hours.
/// @throws dalle::Error if no suite uses the reranker, or as trained_clip_hash() does
void check_reranker(const std::vector<EvaluationSuite>& suites, const fs::path& reranker) {
  if (reranker.empty()) return;
  if (std::ranges::find(suites, EvaluationSuite::kBestOf) == suites.end())
    throw Error("--reranker {}: requires --suite best_of, which uses it", reranker.string());
  trained_clip_hash(reranker);
}

/// Whether a suite's numbers in a results file are those of today's models: best_of also depends
/// on the contrastive model, which can be trained further.
bool is_current(EvaluationSuite suite, const EvaluatedModel& model,
                const ModelEvaluationOptions& options, const ordered_json& numbers) {
  return suite != EvaluationSuite::kBestOf ||
         numbers.value("reranker", "") == trained_clip_hash(contrastive_model(model, options));
}

/// JSON has no such numbers, and they mean that the model is broken.
void require_finite(const std::string& suite, const ordered_json& metrics) {
  for (const auto& [name, metric] : metrics.items())
    if (metric.is_object() && metric.contains("value") &&
        !std::isfinite(metric.at("value").get<double>()))
      throw Error("--suite {}: {} is {}, expected a finite number", suite, name,
                  metric.at("value").get<double>());
}

/// Images are files rather than part of the results file, which is for programs to read. They are
/// lossless, because the report shows what the numbers are about.
void write_images(const fs::path& folder, const std::map<std::string, RgbImage>& images) {
  if (images.empty()) return;
  make_directories(folder);
  for (const auto& [name, image] : images)
    write_file_atomically(folder / name, encode_image(image, ImageFormat::kPng));
}

/// The command that computes these suites again.
std::string command_of(const EvaluatedModel& model, const ModelEvaluationOptions& options,
                       const ordered_json& suites) {
  std::string command =
      fmt::format("dalle-eval --model {} --suite", shell_word(model.checkpoint.string()));
  for (const auto& [name, numbers] : suites.items()) command += " " + name;
  const ordered_json sampling = settings_of(model.config.sample);
  if (model.dalle)
    for (const auto& [key, value] : sampling.items()) {
      std::string option = key;
      std::ranges::replace(option, '_', '-');
      command += fmt::format(" --{} {}", option, value.dump());
    }
  if (!options.extractor.empty())
    command += " --extractor " + shell_word(options.extractor.string());
  if (!options.reranker.empty()) command += " --reranker " + shell_word(options.reranker.string());
  const c10::Device device = device_of(*model.vae);
  return command + fmt::format(" --limit {} --device {} --out {} --restart", options.limit,
                               device.str(), shell_word(options.out.string()));
}

/// The suites that the results file contains for this model and that are not to be recomputed, on
/// all ranks as rank 0 finds them.
ordered_json kept_suites(const std::vector<EvaluationSuite>& suites,
                         const ModelEvaluationOptions& options, const EvaluatedModel& model,
                         const ordered_json& identity, ProcessGroup& group) {
  ordered_json kept = ordered_json::object();
  if (group.is_rank_zero()) kept = finished_suites(options.out, identity);
  for (const EvaluationSuite suite : suites)
    if (const std::string name(to_string(suite));
        kept.contains(name) && (options.restart || !is_current(suite, model, options, kept[name])))
      kept.erase(name);
  return ordered_json::parse(group.broadcast(kept.dump()));
}

/// Unfinished work on the results, which rank 0 checks or begins.
ChunkStore open_store(const std::vector<EvaluationSuite>& suites,
                      const ModelEvaluationOptions& options, const ordered_json& identity,
                      ProcessGroup& group) {
  const fs::path folder = partial_results(options.out);
  if (!group.is_rank_zero()) return ChunkStore::reopened(folder);
  ChunkStore store(folder, identity);
  if (!options.restart) return store;
  store.remove(kGeneratedImages);
  for (const EvaluationSuite suite : suites) store.remove(std::string(to_string(suite)));
  return store;
}

void write_results(const fs::path& file, const ordered_json& result) {
  write_file_atomically(file, result.dump(2) + "\n");
}

}  // namespace

fs::path partial_results(const fs::path& results) {
  return results.parent_path() / (results.stem().string() + ".partial");
}

ordered_json evaluate_model(EvaluatedModel& model, const ModelEvaluationOptions& options,
                            ProcessGroup& group, const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const std::vector<EvaluationSuite> suites = suites_to_run(model, options);
  check_reranker(suites, options.reranker);
  const Extractor extractor = extractor_for(suites, model, options.extractor);
  std::optional<FileLock> lock;
  if (group.is_rank_zero()) lock.emplace(fs::path(options.out) += ".lock");
  const EvaluationData data(model, options.limit);
  if (group.world_size() > data.size())
    throw Error("{} ranks: found {} validation image{}, expected at least one for each rank",
                group.world_size(), data.size(), data.size() == 1 ? "" : "s");
  for (const EvaluationSuite suite : options.suites)
    if (const std::string obstacle = obstacle_to(suite, data); !obstacle.empty())
      throw Error("--suite {}: {}", to_string(suite), obstacle);
  ordered_json result{{"model", identity_of(model, data, extractor)},
                      {"suites", ordered_json::object()}};
  check_agreement(group, "model to evaluate", result["model"].dump(2));
  if (!options.reranker.empty())
    check_agreement(group, "reranker", trained_clip_hash(options.reranker));
  result["suites"] = kept_suites(suites, options, model, result["model"], group);
  // So that the same command without --restart continues if this one is stopped.
  if (options.restart && group.is_rank_zero() && fs::exists(options.out))
    write_results(options.out, result);
  const ChunkStore store = open_store(suites, options, result["model"], group);
  ChunkedWork work(group, check_stop, device_of(*model.vae), store);
  ImageGenerator generator(model, work);
  const SuiteInputs inputs{
      .generator = generator,
      .extractor = extractor,
      .contrastive = model.dalle ? contrastive_model(model, options) : fs::path()};
  const auto will_generate = [&](EvaluationSuite suite) {
    return generates_images(suite) && !result["suites"].contains(std::string(to_string(suite)));
  };
  if (std::ranges::any_of(suites, will_generate))
    warn_of_untrained_guidance(model.config, model.config.sample);
  for (const EvaluationSuite suite : suites) {
    const std::string name(to_string(suite));
    if (result["suites"].contains(name)) {
      log_info("{}: already in {} (--restart recomputes it)", name, options.out.string());
      continue;
    }
    if (const std::string obstacle = obstacle_to(suite, data); !obstacle.empty()) {
      log_info("skipping {}: {}", name, obstacle);
      continue;
    }
    SuiteResult found = function_of(suite)(model, data, inputs, work);
    require_finite(name, found.numbers);
    result["suites"][name] = std::move(found.numbers);
    result["command"] = command_of(model, options, result["suites"]);
    if (!group.is_rank_zero()) continue;
    write_images(images_of_results(options.out), found.images);
    write_results(options.out, result);
    store.remove(name);
  }
  // Other suites may be unfinished.
  std::set<std::string> parts = store.parts();
  parts.erase(kGeneratedImages);
  if (group.is_rank_zero() && parts.empty()) store.remove();
  return result;
}

}  // namespace dalle
