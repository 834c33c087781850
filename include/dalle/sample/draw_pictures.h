#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/data/picture.h"
#include "dalle/model/dalle_model.h"
#include "dalle/model/discrete_vae.h"
#include "dalle/sample/image_generator.h"
#include "dalle/sample/sampling_config.h"

namespace dalle {

/// Draws pictures of a caption: image tokens from the transformer, pixels from the dVAE's decoder.
///
/// Picture i of a seed is the same whatever the count and the other captions.
///
/// @param caption  [text_length - 1] int64, from pad_caption()
/// @throws dalle::Error if the model's logits are not finite
std::vector<Picture> draw_pictures(DalleModel model, DiscreteVae vae, const at::Tensor& caption,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   const GenerateProgress& progress = {});

}  // namespace dalle
