#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "sample/generate_codes.h"
#include "sample/sampling_config.h"

namespace dalle {

/// Generates images of a caption: the transformer generates image tokens, which the dVAE decodes.
///
/// Image i of a seed does not depend on the count or on other captions.
///
/// @param caption  [text_length - 1] int64, from pad_caption()
/// @throws dalle::Error if the model's logits are not finite
std::vector<RgbImage> generate_images(DalleModel model, DiscreteVae vae, const at::Tensor& caption,
                                      const SamplingConfig& sampling,
                                      const GenerateOptions& options,
                                      const GenerateProgress& progress = {});

}  // namespace dalle
