#include "nn/linear.h"

#include <torch/types.h>

#include "core/error.h"

namespace dalle {

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias, Precision precision)
    : precision_(precision) {
  DALLE_CHECK(in > 0 && out > 0);
  weight_ = register_parameter("weight", torch::zeros({out, in}));
  if (with_bias) bias_ = register_parameter("bias", torch::zeros({out}));
}

void LinearImpl::initialize(at::Generator generator, double stddev) {
  const torch::NoGradGuard no_grad;
  weight_.normal_(0.0, stddev, std::move(generator));
  if (bias_.defined()) bias_.zero_();
}

at::Tensor LinearImpl::forward(const at::Tensor& x) {
  const auto type = precision_ == Precision::kBfloat16 ? at::kBFloat16 : weight_.scalar_type();
  return at::linear(x.to(type), weight_.to(type), bias_.defined() ? bias_.to(type) : at::Tensor());
}

}  // namespace dalle
