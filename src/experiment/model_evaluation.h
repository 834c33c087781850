#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include "core/stop_signal.h"
#include "experiment/trained_dalle.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// The parts of an evaluation; docs/evaluation.md defines what each measures.
enum class EvaluationSuite { kReconstruction, kCodes, kLikelihood, kShapes };

constexpr auto enum_names(EvaluationSuite) {
  using enum EvaluationSuite;
  return std::array<std::pair<EvaluationSuite, std::string_view>, 4>{
      {{kReconstruction, "reconstruction"},
       {kCodes, "codes"},
       {kLikelihood, "likelihood"},
       {kShapes, "shapes"}}};
}

/// A model to evaluate: a dVAE, and the transformer if that has been trained.
struct EvaluatedModel {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< of the checkpoint's manifest
  int64_t step = 0;
  ExperimentConfig config;
  DiscreteVae vae;
  std::optional<TrainedDalle> dalle;
};

/// Reads the newest valid checkpoint of a run: of the stage dalle, or else of the stage dvae; or
/// the checkpoint at `path`.
/// @throws dalle::Error as load_trained_dalle() does
EvaluatedModel load_evaluated_model(const std::filesystem::path& path, c10::Device device);

/// The run folder that a model belongs to: of RUN/checkpoints/STAGE/CHECKPOINT and the folders
/// between them, RUN; other paths as they are.
std::filesystem::path run_of_model(const std::filesystem::path& path);

struct ModelEvaluationOptions {
  std::vector<EvaluationSuite> suites;  ///< empty: all that the model and its data allow
  int64_t limit = 0;                    ///< validation images to use; 0: all
  std::filesystem::path out;            ///< the file of results
  bool restart = false;                 ///< also recompute what the file has of this model
};

/// Evaluates a model on the validation data of its config, one suite after the other, and writes
/// the file of results after each. Suites that the file already has, of the same checkpoint and
/// limit, are not computed again; results of other models are replaced.
///
/// @return  the file's content
/// @throws dalle::Error if there is nothing to evaluate on, or if a suite was requested that needs
///         a transformer or the data set shapes, and there is none; StopRequested from `check_stop`
nlohmann::ordered_json evaluate_model(EvaluatedModel& model, const ModelEvaluationOptions& options,
                                      const CheckStop& check_stop);

/// One line per number: its suite, name, value and interval.
std::string evaluation_table(const nlohmann::ordered_json& evaluation);

}  // namespace dalle
