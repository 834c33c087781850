#include "nn/gpu/residual_norm.h"

#include <optional>
#include <vector>

#include <ATen/ops/layer_norm.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"
#include "nn/gpu/kernel_agreement.h"
#include "tensor/held_value.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor empty_branch(const at::Tensor& x) {
  return torch::empty_like(x, x.options().dtype(at::kBFloat16));
}

NormOutputs run_forward(const NormKernels& kernels, const NormInputs& in) {
  DALLE_CHECK(in.x.is_contiguous() && in.gain.numel() == in.x.size(-1));
  DALLE_CHECK(!in.branch.defined() || in.branch.sizes() == in.x.sizes());
  const auto rows = in.x.sizes().slice(0, static_cast<size_t>(in.x.dim()) - 1);
  NormOutputs out{.total = in.branch.defined() ? torch::empty_like(in.x) : in.x,
                  .normed = empty_branch(in.x),
                  .mean = torch::empty(rows, in.x.options()),
                  .rstd = torch::empty(rows, in.x.options())};
  kernels.forward(in, out);
  return out;
}

NormGradients run_backward(const NormKernels& kernels, const NormOutputs& saved,
                           const at::Tensor& gain, bool with_branch, const at::Tensor& d_total,
                           const at::Tensor& d_normed) {
  NormGradients gradients{.x = torch::empty_like(saved.total),
                          .branch = with_branch ? empty_branch(saved.total) : at::Tensor(),
                          .gain = {},
                          .bias = {}};
  kernels.backward(saved, gain, d_total.contiguous(), d_normed.contiguous(), gradients);
  return gradients;
}

class FusedResidualNorm : public torch::autograd::Function<FusedResidualNorm> {
 public:
  static variable_list forward(AutogradContext* context, const NormKernels& kernels,
                               const at::Tensor& x, const std::optional<at::Tensor>& branch,
                               const at::Tensor& gain, const at::Tensor& bias) {
    const auto out = run_forward(
        kernels, {.x = x, .branch = branch.value_or(at::Tensor()), .gain = gain, .bias = bias});
    context->save_for_backward({out.total, out.mean, out.rstd, gain});
    context->saved_data["kernels"] = keep_value(&kernels);
    context->saved_data["with_branch"] = branch.has_value();
    return {out.total, out.normed};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto result = run_backward(
        *kept_value<const NormKernels*>(context->saved_data["kernels"]),
        {.total = saved[0], .normed = {}, .mean = saved[1], .rstd = saved[2]}, saved[3],
        context->saved_data["with_branch"].toBool(), gradients[0], gradients[1]);
    return {at::Tensor(), result.x, result.branch, result.gain, result.bias};
  }
};

}  // namespace

ResidualNorm residual_norm(const NormInputs& in, const NormKernels* kernels) {
  if (kernels != nullptr) {
    std::optional<at::Tensor> branch;
    if (in.branch.defined()) branch = in.branch.to(at::kBFloat16).contiguous();
    const auto results =
        FusedResidualNorm::apply(*kernels, in.x.contiguous(), branch, in.gain, in.bias);
    return {.total = results[0], .normed = results[1]};
  }
  const auto total = in.branch.defined() ? in.x + in.branch.to(in.x.scalar_type()) : in.x;
  return {.total = total,
          .normed = at::layer_norm(total, in.gain.sizes(), in.gain, in.bias, kNormEpsilon)};
}

bool agrees_with_layer_norm(const NormKernels& kernels, int64_t width, at::Device device) {
  constexpr int64_t kRows = 1000;
  const torch::NoGradGuard no_grad;
  const auto random = [&](std::vector<int64_t> sizes, uint64_t seed) {
    return random_numbers(sizes, seed, device);
  };
  for (const bool with_branch : {false, true}) {
    const NormInputs in{
        .x = random({kRows, width}, 1) + 1,
        .branch = with_branch ? random({kRows, width}, 2).to(at::kBFloat16) : at::Tensor(),
        .gain = random({width}, 3),
        .bias = random({width}, 4)};
    const auto d_total = random({kRows, width}, 5);
    const auto d_normed = random({kRows, width}, 6).to(at::kBFloat16);
    const auto out = run_forward(kernels, in);
    const auto gradients = run_backward(kernels, out, in.gain, with_branch, d_total, d_normed);

    const auto total = with_branch ? in.x + in.branch.to(at::kFloat) : in.x;
    const auto [normed, mean, rstd] =
        at::native_layer_norm(total, {width}, in.gain, in.bias, kNormEpsilon);
    const auto [d_x, d_gain, d_bias] = at::native_layer_norm_backward(
        d_normed.to(at::kFloat), total, {width}, mean, rstd, in.gain, in.bias, {true, true, true});
    const auto d_sum = d_x + d_total;
    if (!rows_are_close(out.total, total) || !rows_are_close(out.normed, normed) ||
        !rows_are_close(gradients.x, d_sum) || !rows_are_close(gradients.gain, d_gain) ||
        !rows_are_close(gradients.bias, d_bias) ||
        (with_branch && !rows_are_close(gradients.branch, d_sum)))
      return false;
  }
  return true;
}

}  // namespace dalle
