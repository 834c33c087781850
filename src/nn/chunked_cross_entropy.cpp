#include "dalle/nn/chunked_cross_entropy.h"

#include <algorithm>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "dalle/core/error.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class ChunkedCrossEntropy : public torch::autograd::Function<ChunkedCrossEntropy> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& states,
                            const at::Tensor& weight, const at::Tensor& targets, bool bfloat16,
                            int64_t chunk) {
    const torch::NoGradGuard no_grad;
    const auto type = bfloat16 ? at::kBFloat16 : weight.scalar_type();
    const auto head = weight.to(type);  // [classes, width]
    auto total = torch::zeros({}, weight.options());
    auto states_gradient = torch::empty_like(states);
    auto weight_gradient = torch::zeros_like(weight);
    for (int64_t first = 0; first < states.size(0); first += chunk) {
      const int64_t rows = std::min(chunk, states.size(0) - first);
      const auto x = states.narrow(0, first, rows).to(type);  // [rows, width]
      const auto target = targets.narrow(0, first, rows);     // [rows]
      const auto counts = target.ge(0);
      const auto log_probabilities =
          x.matmul(head.t()).to(weight.scalar_type()).log_softmax(1);  // [rows, classes]
      const auto index = target.clamp_min(0).unsqueeze(1);
      total -=
          log_probabilities.gather(1, index).squeeze(1).masked_fill(counts.logical_not(), 0).sum();
      auto gradient = log_probabilities.exp_();  // softmax minus one-hot, in place
      gradient.scatter_add_(1, index, torch::full_like(index, -1, gradient.options()));
      gradient.mul_(counts.unsqueeze(1));
      const auto cast = gradient.to(type);
      states_gradient.narrow(0, first, rows).copy_(cast.matmul(head));
      weight_gradient += cast.t().matmul(x);
    }
    context->save_for_backward({states_gradient, weight_gradient});
    return total;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {saved[0] * gradients[0], saved[1] * gradients[0], at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor chunked_cross_entropy(const at::Tensor& states, const at::Tensor& weight,
                                 const at::Tensor& targets, Precision precision, int64_t chunk) {
  DALLE_CHECK(states.dim() == 2 && weight.dim() == 2 && states.size(1) == weight.size(1));
  DALLE_CHECK(targets.dim() == 1 && targets.size(0) == states.size(0) && chunk > 0);
  return ChunkedCrossEntropy::apply(states, weight, targets, precision == Precision::kBfloat16,
                                    chunk);
}

}  // namespace dalle
