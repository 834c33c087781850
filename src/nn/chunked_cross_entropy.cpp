#include "nn/chunked_cross_entropy.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"
#include "nn/gpu/float_product.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SumAndGradients {
  at::Tensor sum;              // []
  at::Tensor states_gradient;  // [N, width], undefined unless requested
  at::Tensor weight_gradient;  // [classes, width], likewise
};

struct LossOptions {
  TargetRows target_rows = TargetRows::kSome;
  Precision precision = Precision::kFloat32;
  int64_t chunk = kLossChunk;
};

/// [M] int64 on the targets' device
at::Tensor rows_with_target(const at::Tensor& targets, TargetRows target_rows) {
  if (target_rows == TargetRows::kAll) return torch::arange(targets.size(0), targets.options());
  return targets.ge(0).nonzero().squeeze(1);
}

SumAndGradients compute(const at::Tensor& states, const at::Tensor& weight,
                        const at::Tensor& targets, const LossOptions& options,
                        bool with_gradients) {
  const auto type =
      options.precision == Precision::kBfloat16 ? at::kBFloat16 : weight.scalar_type();
  const auto head = weight.to(type);  // [classes, width]
  const bool into_float = has_float_product(head);
  SumAndGradients result{
      .sum = torch::zeros({}, weight.options()),
      .states_gradient = with_gradients ? torch::zeros_like(states) : at::Tensor(),
      .weight_gradient = with_gradients ? torch::zeros_like(weight) : at::Tensor()};
  const auto with_target =
      to_device(rows_with_target(targets, options.target_rows), states.device());  // [M]
  const auto classes = to_device(targets, states.device());                        // [N]
  for (const at::Tensor& rows : with_target.split(options.chunk)) {
    const auto x = states.index_select(0, rows);                     // [R, width]
    const auto rounded = x.to(type);                                 // [R, width]
    const auto target = classes.index_select(0, rows).unsqueeze(1);  // [R, 1]
    auto log_probabilities =
        (into_float ? at::mm(rounded, head.t(), at::kFloat) : x.matmul(weight.t()))
            .log_softmax(1);  // [R, classes]
    result.sum -= log_probabilities.gather(1, target).sum();
    if (!with_gradients) continue;
    auto gradient = log_probabilities.exp_();  // softmax minus one-hot, in place
    gradient.scatter_add_(1, target, torch::full_like(target, -1, gradient.options()));
    const auto cast = gradient.to(type);
    result.states_gradient.index_copy_(0, rows, cast.matmul(head).to(states.scalar_type()));
    if (into_float)
      at::addmm_out(result.weight_gradient, result.weight_gradient, cast.t(), rounded, at::kFloat);
    else
      result.weight_gradient += cast.t().matmul(rounded);
  }
  return result;
}

class ChunkedCrossEntropy : public torch::autograd::Function<ChunkedCrossEntropy> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& states,
                            const at::Tensor& weight, const at::Tensor& targets,
                            const LossOptions& options) {
    const torch::NoGradGuard no_grad;
    const auto result = compute(states, weight, targets, options, /*with_gradients=*/true);
    context->save_for_backward({result.states_gradient, result.weight_gradient});
    return result.sum;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {saved[0] * gradients[0], saved[1] * gradients[0], at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor chunked_cross_entropy(const at::Tensor& states, const at::Tensor& weight,
                                 const at::Tensor& targets, TargetRows target_rows,
                                 Precision precision, int64_t chunk) {
  DALLE_CHECK(states.dim() == 2 && weight.dim() == 2 && states.size(1) == weight.size(1));
  DALLE_CHECK(targets.dim() == 1 && targets.size(0) == states.size(0) && chunk >= 0);
  if (chunk == 0) chunk = states.is_cuda() ? kGpuLossChunk : kLossChunk;
  const LossOptions options{.target_rows = target_rows, .precision = precision, .chunk = chunk};
  if (!torch::GradMode::is_enabled() || !(states.requires_grad() || weight.requires_grad()))
    return compute(states, weight, targets, options, /*with_gradients=*/false).sum;
  return ChunkedCrossEntropy::apply(states, weight, targets, options);
}

}  // namespace dalle
