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

// The suites. docs/evaluation.md defines their numbers. They are collectives of the ranks that
// share `work`, and return the same on each. They throw what ChunkedWork::records() does.

SuiteResult evaluate_reconstruction(EvaluatedModel& model, const EvaluationData& data,
                                    ChunkedWork& work);
nlohmann::ordered_json evaluate_codes(EvaluatedModel& model, const EvaluationData& data,
                                      ChunkedWork& work);

// These need model.dalle. Ranking also needs captions that differ, shapes, completion and levels
// the data set shapes, and levels a training that held out combinations of attributes.
// Suites that generate images for captions of the validation data share `generator`.
nlohmann::ordered_json evaluate_likelihood(EvaluatedModel& model, const EvaluationData& data,
                                           ChunkedWork& work);
nlohmann::ordered_json evaluate_ranking(EvaluatedModel& model, const EvaluationData& data,
                                        ChunkedWork& work);
SuiteResult evaluate_shapes(EvaluatedModel& model, const EvaluationData& data,
                            ImageGenerator& generator, ChunkedWork& work);
SuiteResult evaluate_completion(EvaluatedModel& model, const EvaluationData& data,
                                ImageGenerator& generator, ChunkedWork& work);
/// @param contrastive  for load_trained_clip(); its hash is the entry `reranker`
/// @param judge        finds the caption that fits a selected image best; nothing: `contrastive`
nlohmann::ordered_json evaluate_best_of(EvaluatedModel& model, const EvaluationData& data,
                                        const std::filesystem::path& contrastive,
                                        const std::optional<TrainedClip>& judge, ChunkedWork& work);
/// As many scenes of each level as `data` has samples, at most 1,000. Levels for which the config
/// allows no scenes, or whose captions are longer than the model reads, are left out.
nlohmann::ordered_json evaluate_levels(EvaluatedModel& model, const EvaluationData& data,
                                       ChunkedWork& work);

/// How many validation samples the suites frechet and memorization need at least.
inline constexpr int64_t kMinComparedImages = 10;

/// Distances of generated images from validation images.
/// @param extractor  a further space to compare them in
/// @throws dalle::Error if fewer than kMinComparedImages validation images are valid
SuiteResult evaluate_frechet(EvaluatedModel& model, const EvaluationData& data,
                             ImageGenerator& generator,
                             const std::optional<FeatureSpace>& extractor, ChunkedWork& work);
/// Whether generated images are nearer to training images than validation images are, and how much
/// images of one caption differ. Arguments and errors as for evaluate_frechet().
SuiteResult evaluate_memorization(EvaluatedModel& model, const EvaluationData& data,
                                  ImageGenerator& generator,
                                  const std::optional<FeatureSpace>& extractor, ChunkedWork& work);

}  // namespace dalle
