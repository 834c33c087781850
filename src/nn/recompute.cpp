#include "nn/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "tensor/held_value.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Layer = std::function<at::Tensor(const at::Tensor&)>;

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Layer& layer) {
    context->save_for_backward({x});
    context->saved_data["layer"] = keep_value(layer);
    const torch::NoGradGuard no_grad;
    return layer(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& layer = kept_value<Layer>(context->saved_data["layer"]);
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    const torch::AutoGradMode with_gradients(true);
    const at::Tensor y = layer(x);
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recompute(const Layer& layer, const at::Tensor& x) {
  if (!torch::GradMode::is_enabled() || !x.requires_grad()) return layer(x);
  return Recompute::apply(x, layer);
}

}  // namespace dalle
