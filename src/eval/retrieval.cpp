#include "eval/retrieval.h"

#include <limits>

#include <torch/types.h>

namespace dalle {

std::vector<double> retrieved_at(const at::Tensor& similarity, const at::Tensor& labels,
                                 std::span<const int64_t> ks) {
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  const auto partners = labels.unsqueeze(1).eq(labels);                                    // [N, N]
  const auto best = similarity.masked_fill(partners.logical_not(), kNever).amax(1, true);  // [N, 1]
  // Not ge(): what is not a number counts as ahead, too.
  const auto ahead = (similarity.lt(best).logical_not() & partners.logical_not()).sum(1);  // [N]
  std::vector<double> shares;
  for (const int64_t k : ks) shares.push_back(ahead.lt(k).to(at::kDouble).mean().item<double>());
  return shares;
}

}  // namespace dalle
