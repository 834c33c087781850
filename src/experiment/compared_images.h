#pragma once

#include <string>
#include <vector>

#include "eval/feature_set.h"
#include "experiment/evaluation_suites.h"

namespace dalle {

/// Validation images and one generated for the caption of each, in the same order.
struct ComparedImages {
  FeatureSet validation, generated;
  std::vector<std::string> captions;
  std::vector<at::Tensor> images;  ///< the generated ones, each [3, S, S] uint8
};

/// Computes the features of EvaluationData::images_to_generate() images of each kind.
///
/// @param suite  names the progress
/// @throws dalle::Error if fewer than kMinComparedImages validation images are valid
ComparedImages compare_images(EvaluatedModel& model, const EvaluationData& data,
                              ImageGenerator& generator, const std::vector<FeatureKind>& kinds,
                              const std::string& suite, const CheckStop& check_stop);

/// Adds images to a set, in batches on `device`.
/// @param images  each [3, S, S] uint8
void add_images(FeatureSet& set, const std::vector<at::Tensor>& images, c10::Device device,
                const std::string& what, const CheckStop& check_stop);

}  // namespace dalle
