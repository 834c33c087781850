#include "nn/conv2d.h"

#include <cmath>

#include <torch/types.h>

#include "core/error.h"
#include "nn/gpu/float_product.h"

namespace dalle {

Conv2dImpl::Conv2dImpl(int64_t in_channels, int64_t out_channels, int64_t kernel,
                       Precision precision)
    : precision_(precision) {
  DALLE_CHECK(in_channels > 0 && out_channels > 0 && kernel > 0 && kernel % 2 == 1);
  w_ = register_parameter("w", torch::zeros({out_channels, in_channels, kernel, kernel}));
  b_ = register_parameter("b", torch::zeros({out_channels}));
}

void Conv2dImpl::initialize(at::Generator generator) {
  const auto fan_in = static_cast<double>(w_.size(1) * w_.size(2) * w_.size(3));
  initialize(std::move(generator), 1.0 / std::sqrt(fan_in));
}

void Conv2dImpl::initialize(at::Generator generator, double stddev) {
  const torch::NoGradGuard no_grad;
  w_.normal_(0.0, stddev, std::move(generator));
  b_.zero_();
}

at::Tensor Conv2dImpl::forward(const at::Tensor& x, double output_scale) {
  const auto type = precision_ == Precision::kBfloat16 ? at::kBFloat16 : w_.scalar_type();
  const auto w = output_scale == 1.0 ? w_ : w_ * output_scale;
  const auto b = output_scale == 1.0 ? b_ : b_ * output_scale;
  if (type == at::kFloat && w_.size(2) == 1 && has_float_product(x)) {
    const auto pixels = x.permute({0, 2, 3, 1});                              // [B, H, W, in]
    const auto y = float_linear(pixels.flatten(0, 2), w.flatten(1)).add_(b);  // [B H W, out]
    return y.view({x.size(0), x.size(2), x.size(3), w.size(0)}).permute({0, 3, 1, 2});
  }
  return at::conv2d(x.to(type), w.to(type), b.to(type), /*stride=*/1, /*padding=*/w_.size(2) / 2);
}

}  // namespace dalle
