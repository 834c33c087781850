#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "data/image/rgb_image.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "sample/generate_codes.h"
#include "sample/sampling_config.h"

namespace dalle {

/// Decodes codes [h, w] int64 in [0, K), on any device. Images are decoded one by one, because
/// rounding may depend on the batch size.
RgbImage decode_image(DiscreteVae vae, const at::Tensor& codes);

/// Called with each image as soon as it is complete, in no particular order.
/// @param request  index of its CaptionImages
using ImageDone = std::function<void(size_t request, int64_t image, const RgbImage& pixels)>;

/// Generates images for captions: the transformer generates image tokens, which the dVAE decodes,
/// one image at a time. See generate_codes() for what image i of a seed depends on.
///
/// @throws dalle::Error if the model's logits are not finite
GenerateStatistics generate_images(DalleModel model, DiscreteVae vae,
                                   std::span<const CaptionImages> requests,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   const ImageDone& image_done,
                                   const GenerateProgress& progress = {});

}  // namespace dalle
