#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/image/rgb_image.h"
#include "eval/judged_images.h"
#include "experiment/evaluation/evaluation_suites.h"

namespace dalle {

// What the suites of the data set shapes share.

/// Captions of validation scenes, and the verdicts on reconstructions of their images.
struct JudgedReconstructions {
  std::vector<std::string> captions;
  JudgedImages judged;
};

/// @param limit  how many samples to use
JudgedReconstructions judge_reconstructions(EvaluatedModel& model, const EvaluationData& data,
                                            const SuitePhase& phase, int64_t limit,
                                            ChunkedWork& work);

/// The verdicts on the images of these codes.
/// @param captions  of each image
/// @param codes     of each image, [h, w] int64
std::vector<ShapesMatch> judge_codes(const EvaluatedModel& model,
                                     const std::vector<std::string>& captions,
                                     const std::vector<at::Tensor>& codes, const SuitePhase& phase,
                                     ChunkedWork& work);

/// One of JudgedImages::proportions().
nlohmann::ordered_json named_proportion(const JudgedImages& judged, std::string_view name);

/// The verdicts on one image of each caption.
JudgedImages judged_images(const std::vector<std::string>& captions,
                           const std::vector<ShapesMatch>& matches);

/// Adds the first 24 images, and what is wrong with them, for the report.
void add_examples(SuiteResult& result, const EvaluatedModel& model, const std::string& suite,
                  const std::vector<std::string>& captions, const std::vector<at::Tensor>& codes,
                  const std::vector<ShapesMatch>& matches);

}  // namespace dalle
