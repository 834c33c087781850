#pragma once

#include <string>
#include <vector>

#include "eval/feature_space.h"
#include "experiment/evaluation/evaluation_suites.h"

namespace dalle {

/// The features of a set of images.
struct FeatureSet {
  std::vector<at::Tensor> kinds;  ///< of each FeatureKind: [N, D] float32 on the CPU

  int64_t size() const { return kinds.front().size(0); }
};

/// The part of a record that has these features; and the features of all records, in order.
nlohmann::ordered_json feature_record(const std::vector<at::Tensor>& features);
FeatureSet joined_features(const std::vector<nlohmann::ordered_json>& records);

/// Validation images and one generated for the caption of each, in the same order.
struct ComparedImages {
  FeatureSet validation, generated;
  std::vector<std::string> captions;
  std::vector<at::Tensor> codes;  ///< of the generated images, each [h, w] int64
};

/// Computes the features of EvaluationData::images_to_generate() images of each kind.
///
/// @param suite  names the progress
/// @throws dalle::Error if fewer than kMinComparedImages validation images are valid
ComparedImages compare_images(EvaluatedModel& model, const EvaluationData& data,
                              ImageGenerator& generator, const std::vector<FeatureKind>& kinds,
                              const std::string& suite, ChunkedWork& work);

/// The features of the images of these codes, as 8-bit images.
/// @param codes  each [h, w] int64
FeatureSet features_of_codes(const EvaluatedModel& model, const std::vector<at::Tensor>& codes,
                             const std::vector<FeatureKind>& kinds, const SuitePhase& phase,
                             ChunkedWork& work);

}  // namespace dalle
