#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/image/rgb_image.h"
#include "eval/feature_space.h"
#include "eval/interval.h"
#include "experiment/evaluation/evaluated_model.h"
#include "experiment/evaluation/evaluation_data.h"
#include "experiment/evaluation/image_generator.h"
#include "experiment/trained/trained_clip.h"
#include "train/chunked_work.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// A number as the results file has it: {"value": x}, or {"value": x, "low": l, "high": h} if the
/// interval is finite.
nlohmann::ordered_json number_of(double value);
nlohmann::ordered_json number_of(const Interval& interval);

/// What a suite found, and images that show it.
struct SuiteResult {
  nlohmann::ordered_json numbers;
  std::map<std::string, RgbImage> images = {};  ///< by the file names that `numbers` gives them
};

/// One of the images of a caption that a ranking selects from.
struct JudgedCandidate {
  double score = 0;                    ///< of the contrastive model; higher is better
  std::optional<double> likelihood{};  ///< the transformer's score; all candidates have it or none
  bool retrieved = false;              ///< its own caption is the most similar to it
  std::optional<bool> exact{};         ///< it shows all that the caption states, and no more;
                                       ///< only for the shapes
};

/// The numbers `captions`, `clip_score`, and `retrieved_of_...`, `exact_of_...` and
/// `possible_of_...` of the suite best_of.
/// @param images  64 of each caption, by number
nlohmann::ordered_json best_of_numbers(std::span<const std::vector<JudgedCandidate>> images);

/// What the option --extractor names; empty without it.
struct Extractor {
  std::optional<FeatureSpace> space = {};  ///< a further space to compare images in
  /// Whose space it is, and what finds the caption that fits a selected image best: nothing for a
  /// TorchScript file.
  std::optional<TrainedClip> clip = {};
};

/// What some suites take besides the model and its data.
struct SuiteInputs {
  ImageGenerator& generator;  ///< of images for captions of the validation data
  Extractor extractor = {};
  std::filesystem::path contrastive = {};  ///< for load_trained_clip(), of the suite best_of
};

/// A suite; docs/evaluation.md defines its numbers. A collective of the ranks that share `work`,
/// which returns the same on each.
/// @throws what ChunkedWork::records() does
using Suite = SuiteResult(EvaluatedModel& model, const EvaluationData& data,
                          const SuiteInputs& inputs, ChunkedWork& work);

Suite evaluate_reconstruction, evaluate_codes;

// These need model.dalle. Ranking also needs captions that differ, shapes, completion and levels
// the data set shapes, and levels a training that held out combinations of attributes.
Suite evaluate_likelihood, evaluate_ranking, evaluate_shapes, evaluate_completion;
/// The hash of the contrastive model is the entry `reranker`.
Suite evaluate_best_of;
/// As many scenes of each level as `data` has samples, at most 1,000. Levels for which the config
/// allows no scenes, or whose captions are longer than the model reads, are left out.
Suite evaluate_levels;

/// How many validation samples the suites frechet and memorization need at least. They throw
/// dalle::Error if fewer validation images are valid.
inline constexpr int64_t kMinComparedImages = 10;

/// Distances of generated images from validation images.
Suite evaluate_frechet;
/// Whether generated images are nearer to training images than validation images are, and how much
/// images of one caption differ.
Suite evaluate_memorization;

}  // namespace dalle
