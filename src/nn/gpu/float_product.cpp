#include "nn/gpu/float_product.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

/// @param a, b  bfloat16
/// @return      a b in float32
at::Tensor float_product(const at::Tensor& a, const at::Tensor& b) {
  return has_float_product(a) ? at::mm(a, b, at::kFloat) : a.to(at::kFloat).mm(b.to(at::kFloat));
}

class FloatLinear : public torch::autograd::Function<FloatLinear> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    return float_product(x, weight.to(at::kBFloat16).t());  // [N, out]
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto gradient = gradients[0].to(at::kBFloat16);  // [N, out]
    return {gradient.mm(saved[1].to(at::kBFloat16)),       // [N, in]
            float_product(gradient.t(), saved[0])};        // [out, in]
  }
};

}  // namespace

bool has_float_product(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16;
}

at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight) {
  DALLE_CHECK(x.dim() == 2 && x.scalar_type() == at::kBFloat16);
  DALLE_CHECK(weight.dim() == 2 && weight.scalar_type() == at::kFloat);
  return FloatLinear::apply(x, weight);
}

}  // namespace dalle
