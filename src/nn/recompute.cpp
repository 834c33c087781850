#include "nn/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Layer = std::function<at::Tensor(const at::Tensor&)>;

struct LayerHolder : torch::CustomClassHolder {
  explicit LayerHolder(Layer layer) : call(std::move(layer)) {}
  Layer call;
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<LayerHolder>& layer) {
    context->save_for_backward({x});
    context->saved_data["layer"] = c10::IValue::make_capsule(layer);
    const torch::NoGradGuard no_grad;
    return layer->call(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto layer =
        c10::static_intrusive_pointer_cast<LayerHolder>(context->saved_data["layer"].toCapsule());
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    const torch::AutoGradMode with_gradients(true);
    const at::Tensor y = layer->call(x);
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recompute(const Layer& layer, const at::Tensor& x) {
  if (!torch::GradMode::is_enabled() || !x.requires_grad()) return layer(x);
  return Recompute::apply(x, c10::make_intrusive<LayerHolder>(layer));
}

}  // namespace dalle
