#include "eval/retrieval.h"

#include <limits>

#include <fmt/format.h>
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

bool is_most_similar(const at::Tensor& similarity, int64_t index, const at::Tensor& as_good) {
  const at::Tensor less = similarity.lt(similarity[index]);
  return less.logical_or(as_good).all().item<bool>() && !similarity.isnan().any().item<bool>();
}

std::vector<std::pair<std::string, double>> retrieval_shares(const at::Tensor& similarity,
                                                             const at::Tensor& labels) {
  std::vector<std::pair<std::string, double>> named;
  for (const auto& [direction, rows] :
       {std::pair{"image_to_text", similarity}, std::pair{"text_to_image", similarity.t()}}) {
    const std::vector<double> shares = retrieved_at(rows, labels, kRetrievedAt);
    for (size_t i = 0; i < shares.size(); ++i)
      named.emplace_back(fmt::format("{}_at_{}", direction, kRetrievedAt[i]), shares[i]);
  }
  return named;
}

}  // namespace dalle
