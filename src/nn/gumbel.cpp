#include "nn/gumbel.h"

#include <cmath>

#include <torch/types.h>

#include "core/error.h"
#include "tensor/describe_tensor.h"
#include "tensor/seeded_uniform.h"

namespace dalle {
namespace {

// Softmax is fastest over the last dimension in memory, which holds the channels of channels-last
// tensors. These views cost nothing, whereas softmax over dimension 1 would copy.
at::Tensor channels_to_end(const at::Tensor& x) {
  return x.permute({0, 2, 3, 1});
}
at::Tensor channels_to_front(const at::Tensor& x) {
  return x.permute({0, 3, 1, 2});
}

}  // namespace

at::Tensor gumbel_noise(std::span<const uint64_t> seeds, at::IntArrayRef sizes, at::Device device) {
  DALLE_CHECK(sizes.size() == 3);
  const auto batch = static_cast<int64_t>(seeds.size());
  const int64_t vocab_size = sizes[0];
  const int64_t height = sizes[1];
  const int64_t width = sizes[2];
  auto noise = seeded_uniform(seeds, height * width * vocab_size, device);
  // -ln(1 - u) is exponentially distributed, and exact where it is small; minus its logarithm is
  // Gumbel-distributed.
  noise.neg_().log1p_().neg_().log_().neg_();
  return channels_to_front(noise.view({batch, height, width, vocab_size}));
}

at::Tensor gumbel_softmax(const at::Tensor& logits, const at::Tensor& noise, double temperature) {
  if (logits.dim() != 4 || logits.sizes() != noise.sizes())
    throw Error("gumbel_softmax: logits are {} and noise is {}, expected one shape [B, K, h, w]",
                describe_tensor(logits), describe_tensor(noise));
  if (!(temperature > 0))
    throw Error("gumbel_softmax: temperature is {}, expected a number above 0", temperature);
  const auto scaled = channels_to_end(logits + noise) / temperature;  // [B, h, w, K]
  return channels_to_front(scaled.softmax(-1));
}

at::Tensor kl_to_uniform(const at::Tensor& logits) {
  if (logits.dim() != 4)
    throw Error("kl_to_uniform: logits are {}, expected [B, K, h, w]", describe_tensor(logits));
  const auto log_q = channels_to_end(logits).log_softmax(-1);  // [B, h, w, K]
  const auto negative_entropy = (log_q.exp() * log_q).sum(-1).mean();
  return negative_entropy + std::log(static_cast<double>(logits.size(1)));
}

}  // namespace dalle
