#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/fields.h"
#include "core/stop_signal.h"
#include "dist/process_group.h"
#include "experiment/evaluation/evaluated_model.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// The parts of an evaluation; docs/evaluation.md defines what each measures.
enum class EvaluationSuite {
  kReconstruction,
  kCodes,
  kLikelihood,
  kRanking,
  kShapes,
  kCompletion,
  kLevels,
  kFrechet,
  kMemorization,
  kBestOf
};

constexpr auto enum_names(EvaluationSuite) {
  return names_in_order<EvaluationSuite>("reconstruction", "codes", "likelihood", "ranking",
                                         "shapes", "completion", "levels", "frechet",
                                         "memorization", "best_of");
}

struct ModelEvaluationOptions {
  std::vector<EvaluationSuite> suites;  ///< empty: all that the model and its data allow
  int64_t limit = 0;                    ///< validation images to use; 0: all
  std::filesystem::path out;            ///< the results file
  /// What the suites frechet and memorization also compare images in: a TorchScript file for
  /// torchscript_space(), or a folder for clip_space(load_trained_clip()); empty: nothing. If it is
  /// a folder, it also judges which caption fits each image that best_of selects.
  std::filesystem::path extractor = {};
  /// The contrastive model of the suite best_of, for load_trained_clip(); empty: that of the run.
  std::filesystem::path reranker = {};
  bool restart = false;  ///< recompute what the file already contains
};

/// The folder next to a results file that holds what unfinished suites have found so far.
std::filesystem::path partial_results(const std::filesystem::path& results);

/// Evaluates a model on the validation data of its config, one suite after the other, and writes
/// the results file after each. Suites that the file already contains for the same checkpoints,
/// validation images, sampling settings, extractor, device and build are not recomputed. A file
/// with other results is renamed. OUT.lock keeps a second process from writing the same file.
///
/// A collective: the ranks divide the work of each suite, and rank 0 writes the files. Neither
/// their number nor that of threads changes a number. What is done of a suite is kept in
/// partial_results() if it is stopped, fails or crashes; the next call with the same options
/// continues there.
///
/// @param check_stop  called from several threads
/// @return  the file's content, on every rank
/// @throws dalle::Error if there is no validation data, or less than an image for each rank; if a
///         requested suite lacks what it needs (a transformer, a contrastive model, the data set
///         shapes, captions that differ, enough images); if no suite uses the extractor or the
///         reranker, or they are not what is expected of them; or if a result is not finite
/// @throws StopRequested on all ranks if `check_stop` throws it on one
nlohmann::ordered_json evaluate_model(EvaluatedModel& model, const ModelEvaluationOptions& options,
                                      ProcessGroup& group, const CheckStop& check_stop);

}  // namespace dalle
