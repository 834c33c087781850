#include "nn/activation.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x sigmoid(a x) = silu(a x) / a. This form saves one tensor and needs one backward pass over it;
/// the formula as written would save three and need four.
class QuickGelu : public torch::autograd::Function<QuickGelu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    constexpr double kSlope = 1.702;
    const auto scaled = x * kSlope;
    context->save_for_backward({scaled});
    return at::silu(scaled).div_(kSlope);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {at::silu_backward(gradients[0], context->get_saved_variables()[0])};
  }
};

}  // namespace

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kQuickGelu:
      return QuickGelu::apply(x);
  }
  throw Error("activation {} has no formula", static_cast<int>(activation));
}

}  // namespace dalle
