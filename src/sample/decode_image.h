#pragma once

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "model/discrete_vae.h"

namespace dalle {

/// Decodes codes [h, w] int64 in [0, K), on any device. Images are decoded one by one, because
/// rounding may depend on the batch size.
RgbImage decode_image(DiscreteVae vae, const at::Tensor& codes);

}  // namespace dalle
