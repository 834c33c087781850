#include "nn/gumbel.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"
#include "tensor/seeded_uniform.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// [B, K, h, w] as [B h w, K], without a copy if x is channels-last in memory.
at::Tensor rows_of(const at::Tensor& x) {
  return x.permute({0, 2, 3, 1}).reshape({-1, x.size(1)});
}

/// The inverse of rows_of().
at::Tensor grid_of(const at::Tensor& rows, at::IntArrayRef sizes) {
  return rows.view({sizes[0], sizes[2], sizes[3], sizes[1]}).permute({0, 3, 1, 2});
}

/// Calls work(begin, end) for parts of the rows of a matrix. On the CPU a part is small enough to
/// stay in a core's cache: with a large vocabulary, operations on whole matrices would spend their
/// time on memory. The parts do not depend on the number of threads.
template <class Work>
void for_parts(const at::Tensor& rows, const Work& work) {
  constexpr int64_t kNumbers = 65'536;
  if (!rows.is_cpu()) return work(0, rows.size(0));
  const int64_t part = std::max<int64_t>(1, kNumbers / rows.size(1));
  const int64_t parts = (rows.size(0) + part - 1) / part;
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    const torch::NoGradGuard no_grad;
    for (int64_t i = first; i < last; ++i) work(i * part, std::min((i + 1) * part, rows.size(0)));
  });
}

class GumbelSoftmax : public torch::autograd::Function<GumbelSoftmax> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits,
                            const at::Tensor& noise, double temperature) {
    const auto z = rows_of(logits), g = rows_of(noise);
    auto relaxed = torch::empty_like(z);
    for_parts(z, [&](int64_t begin, int64_t end) {
      auto part = relaxed.slice(0, begin, end);
      at::_softmax_out(
          part,
          (z.slice(0, begin, end) + g.slice(0, begin, end).to(z.scalar_type())).div_(temperature),
          1,
          /*half_to_float=*/false);
    });
    context->save_for_backward({relaxed});
    context->saved_data["temperature"] = temperature;
    return grid_of(relaxed, logits.sizes());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto relaxed = context->get_saved_variables()[0];
    const double temperature = context->saved_data["temperature"].toDouble();
    const auto d_relaxed = rows_of(gradients[0]);
    auto d_logits = torch::empty_like(relaxed);
    for_parts(relaxed, [&](int64_t begin, int64_t end) {
      auto part = d_logits.slice(0, begin, end);
      at::_softmax_backward_data_out(part, d_relaxed.slice(0, begin, end),
                                     relaxed.slice(0, begin, end), 1, relaxed.scalar_type());
      part.div_(temperature);
    });
    return {grid_of(d_logits, gradients[0].sizes()), at::Tensor(), at::Tensor()};
  }
};

class NegativeEntropy : public torch::autograd::Function<NegativeEntropy> {
 public:
  /// @return  [B h w]: sum of q ln q over the codes
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits) {
    const auto z = rows_of(logits);
    auto sums = torch::empty({z.size(0)}, z.options());
    for_parts(z, [&](int64_t begin, int64_t end) {
      const auto log_q = z.slice(0, begin, end).log_softmax(1);
      sums.slice(0, begin, end).copy_(log_q.exp().mul_(log_q).sum(1));
    });
    context->save_for_backward({logits, sums});
    return sums;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto z = rows_of(saved[0]), sums = saved[1].unsqueeze(1),
               d_sums = gradients[0].unsqueeze(1);
    auto d_logits = torch::empty_like(z);
    for_parts(z, [&](int64_t begin, int64_t end) {  // q (ln q - sum of q ln q)
      const auto log_q = z.slice(0, begin, end).log_softmax(1);
      auto part = d_logits.slice(0, begin, end);
      at::sub_out(part, log_q, sums.slice(0, begin, end));
      part.mul_(log_q.exp()).mul_(d_sums.slice(0, begin, end));
    });
    return {grid_of(d_logits, saved[0].sizes())};
  }
};

}  // namespace

at::Tensor gumbel_noise(std::span<const uint64_t> seeds, at::IntArrayRef sizes, at::Device device) {
  DALLE_CHECK(sizes.size() == 3);
  const auto batch = static_cast<int64_t>(seeds.size());
  const int64_t vocab_size = sizes[0];
  const int64_t height = sizes[1];
  const int64_t width = sizes[2];
  const auto noise =
      seeded_uniform(seeds, height * width * vocab_size, device).view({-1, vocab_size});
  // -ln(1 - u) is exponentially distributed, and exact where it is small; minus its logarithm is
  // Gumbel-distributed.
  for_parts(noise, [&](int64_t begin, int64_t end) {
    noise.slice(0, begin, end).neg_().log1p_().neg_().log_().neg_();
  });
  return grid_of(noise, {batch, vocab_size, height, width});
}

at::Tensor gumbel_softmax(const at::Tensor& logits, const at::Tensor& noise, double temperature) {
  if (logits.dim() != 4 || logits.sizes() != noise.sizes())
    throw Error("gumbel_softmax: logits are {} and noise is {}, expected one shape [B, K, h, w]",
                describe_tensor(logits), describe_tensor(noise));
  if (!(temperature > 0))
    throw Error("gumbel_softmax: temperature is {}, expected a number above 0", temperature);
  return GumbelSoftmax::apply(logits, noise, temperature);
}

at::Tensor kl_to_uniform(const at::Tensor& logits) {
  if (logits.dim() != 4)
    throw Error("kl_to_uniform: logits are {}, expected [B, K, h, w]", describe_tensor(logits));
  return NegativeEntropy::apply(logits).mean() + std::log(static_cast<double>(logits.size(1)));
}

}  // namespace dalle
