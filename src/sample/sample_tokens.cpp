#include "sample/sample_tokens.h"

#include <limits>
#include <tuple>

#include <torch/types.h>

namespace dalle {
namespace {

/// [B, V]: the values of each row, the largest first.
at::Tensor sorted(const at::Tensor& values) {
  return std::get<0>(values.sort(1, /*descending=*/true));
}

/// All but the largest values of each row; among equal values, the first ones count as larger.
/// @param values      [B, V]
/// @param descending  sorted(values)
/// @param count       [B, 1] int64 in [1, V], of the largest values
/// @return            [B, V] bool
at::Tensor all_but_largest(const at::Tensor& values, const at::Tensor& descending,
                           const at::Tensor& count) {
  const auto least = descending.gather(1, count - 1);  // [B, 1]
  const auto larger = values.gt(least), equal = values.eq(least);
  const auto is_first = equal.cumsum(1).le(count - larger.sum(1, /*keepdim=*/true));
  return larger.logical_or(equal.logical_and(is_first)).logical_not();
}

/// The first possible token whose cumulative weight exceeds the target or, if rounding leaves a gap
/// at the end, the last possible one.
/// @param weights  [B, V] float64
/// @return         [B] int64
at::Tensor invert_cumulative_rows(const at::Tensor& weights, const at::Tensor& uniform) {
  const auto cumulative = weights.cumsum(1);                           // [B, V]
  const auto target = uniform.unsqueeze(1) * cumulative.slice(1, -1);  // [B, 1]
  const auto tokens = torch::arange(weights.size(1), weights.options().dtype(at::kLong));
  const auto is_possible = weights.gt(0);
  const auto last = (tokens * is_possible).amax(1, /*keepdim=*/true);  // [B, 1]
  return at::where(is_possible.logical_and(target < cumulative), tokens, last).amin(1);
}

}  // namespace

at::Tensor guided_logits(const at::Tensor& conditional, const at::Tensor& unconditional,
                         double guidance) {
  const auto base = unconditional.to(at::kDouble);
  return (base + guidance * (conditional.to(at::kDouble) - base)).to(at::kFloat);
}

at::Tensor sample_tokens(const at::Tensor& logits, const SamplingConfig& sampling,
                         const at::Tensor& uniform) {
  if (sampling.temperature == 0) return logits.argmax(1);
  auto scores = logits.to(at::kDouble);  // [B, V]
  // A tensor, because a GPU would multiply by the reciprocal of a number, which may be infinite.
  const auto temperature = torch::full({1}, sampling.temperature, scores.options());
  scores = (scores - scores.amax(1, /*keepdim=*/true)) / temperature;
  if (sampling.top_k > 0 && sampling.top_k < scores.size(1)) {
    const auto count =
        torch::full({scores.size(0), 1}, sampling.top_k, scores.options().dtype(at::kLong));
    scores.masked_fill_(all_but_largest(scores, sorted(scores), count),
                        -std::numeric_limits<double>::infinity());
  }
  auto weights = scores.exp_();
  if (sampling.top_p < 1) {
    const auto descending = sorted(weights);
    const auto enough = sampling.top_p * weights.cumsum(1).slice(1, -1);  // [B, 1]
    const auto before_last = descending.cumsum(1).slice(1, 0, -1);        // [B, V - 1]
    const auto count = before_last.lt(enough).sum(1, /*keepdim=*/true) + 1;
    weights.masked_fill_(all_but_largest(weights, descending, count), 0);
  }
  return invert_cumulative_rows(weights, uniform);
}

}  // namespace dalle
