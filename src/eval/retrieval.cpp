#include "eval/retrieval.h"

#include <limits>

#include <fmt/format.h>
#include <torch/types.h>

namespace dalle {

bool is_most_similar(const at::Tensor& similarity, int64_t index, const at::Tensor& as_good) {
  const at::Tensor less = similarity.lt(similarity[index]);
  return less.logical_or(as_good).all().item<bool>() && !similarity.isnan().any().item<bool>();
}

std::vector<std::pair<std::string, double>> retrieval_shares(const at::Tensor& similarity,
                                                             const at::Tensor& labels) {
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  std::vector<std::pair<std::string, double>> shares;
  const auto others = labels.unsqueeze(1).ne(labels);  // [N, N] bool: not partners
  for (const auto& [direction, rows] :
       {std::pair{"image_to_text", similarity}, std::pair{"text_to_image", similarity.t()}}) {
    const auto best = rows.masked_fill(others, kNever).amax(1, true);  // [N, 1]
    // Not ge(): what is not a number counts as ahead, too.
    const auto ahead = (rows.lt(best).logical_not() & others).sum(1);  // [N]
    for (const int64_t k : kRetrievedAt)
      shares.emplace_back(fmt::format("{}_at_{}", direction, k),
                          ahead.lt(k).to(at::kDouble).mean().item<double>());
  }
  return shares;
}

}  // namespace dalle
