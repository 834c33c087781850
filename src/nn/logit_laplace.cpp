#include "nn/logit_laplace.h"

#include <cmath>
#include <numbers>

#include <torch/types.h>

#include "core/error.h"
#include "tensor/tensor_checks.h"

namespace dalle {

at::Tensor map_pixels(const at::Tensor& images) {
  return images * (1.0 - 2.0 * kPixelMargin) + kPixelMargin;
}

at::Tensor unmap_pixels(const at::Tensor& pixels) {
  return ((pixels - kPixelMargin) / (1.0 - 2.0 * kPixelMargin)).clamp(0.0, 1.0);
}

at::Tensor logit_laplace_nll(const at::Tensor& mean, const at::Tensor& log_scale,
                             const at::Tensor& pixels) {
  if (mean.sizes() != pixels.sizes() || log_scale.sizes() != pixels.sizes())
    throw Error("logit_laplace_nll: mean is {}, log_scale is {}, pixels are {}, expected one shape",
                describe_tensor(mean), describe_tensor(log_scale), describe_tensor(pixels));
  const auto log_x = pixels.log();
  const auto log_1_minus_x = pixels.neg().log1p();
  const auto distance = (mean - (log_x - log_1_minus_x)).abs();
  const auto density_free = (log_x + log_1_minus_x).mean() + std::numbers::ln2;
  return (distance * log_scale.neg().exp() + log_scale).mean() + density_free;
}

}  // namespace dalle
