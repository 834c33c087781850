#include "sample/logits.h"

#include <torch/types.h>

#include "core/error.h"

namespace dalle {

at::Tensor token_probabilities(const at::Tensor& logits, const SamplingConfig& sampling) {
  DALLE_CHECK(logits.dim() == 2);
  DALLE_CHECK(sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p >= 0);
  auto scores = logits.detach().to(at::kCPU, at::kDouble);  // [B, V]
  if (!scores.isfinite().all().item<bool>())
    throw Error("the model's logits are not finite; its weights may be corrupt");
  const int64_t vocab_size = scores.size(1);
  if (sampling.temperature == 0)
    return torch::zeros_like(scores).scatter_(1, scores.argmax(1, /*keepdim=*/true), 1.0);

  // Relative to the most likely token, so that division by a small temperature may give minus
  // infinity but never NaN.
  scores = (scores - scores.amax(1, /*keepdim=*/true)) / sampling.temperature;
  if (sampling.top_k > 0 && sampling.top_k < vocab_size) {
    const auto least = std::get<0>(scores.topk(sampling.top_k, 1)).slice(1, -1);  // [B, 1]
    const auto ties = scores == least;  // only the first ones are kept, so that k tokens remain
    const auto room = sampling.top_k - (scores > least).sum(1, /*keepdim=*/true);
    scores.masked_fill_((scores < least).logical_or_(ties.logical_and(ties.cumsum(1) > room)),
                        -std::numeric_limits<double>::infinity());
  }
  auto probabilities = scores.softmax(1);
  if (sampling.top_p < 1) {
    const auto [sorted, order] = probabilities.sort(/*stable=*/true, 1, /*descending=*/true);
    const auto before = sorted.cumsum(1) - sorted;  // total of more likely tokens
    const auto dropped = before >= sampling.top_p;  // the most likely one always stays
    dropped.select(1, 0).fill_(false);
    probabilities.masked_fill_(torch::zeros_like(dropped).scatter_(1, order, dropped), 0.0);
    probabilities /= probabilities.sum(1, /*keepdim=*/true);
  }
  return probabilities;
}

at::Tensor sample_tokens(const at::Tensor& probabilities, std::span<const double> uniforms) {
  DALLE_CHECK(probabilities.size(0) == static_cast<int64_t>(uniforms.size()));
  const auto contiguous = probabilities.contiguous();
  const int64_t vocab_size = contiguous.size(1);
  auto tokens = torch::zeros({contiguous.size(0)}, at::kLong);
  for (int64_t row = 0; row < contiguous.size(0); ++row) {
    const double* p = contiguous.const_data_ptr<double>() + row * vocab_size;
    double cumulative = 0;
    int64_t sampled = -1;  // the last token of positive probability if rounding leaves a gap at 1
    for (int64_t token = 0; token < vocab_size; ++token) {
      if (p[token] == 0) continue;
      sampled = token;
      cumulative += p[token];
      if (uniforms[static_cast<size_t>(row)] < cumulative) break;
    }
    tokens[row] = sampled;
  }
  return tokens;
}

}  // namespace dalle
