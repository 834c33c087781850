#include "dalle/train/replica_check.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <torch/types.h>

#include "dalle/core/error.h"

namespace dalle {
namespace {

/// [parameters] int64: the sum of each parameter's bits, read as 32-bit numbers.
at::Tensor bit_sums(const FlatParameters& parameters) {
  const auto bits = parameters.values().view(torch::kInt);
  std::vector<at::Tensor> sums;
  for (const FlatParameters::Slice& slice : parameters.slices())
    sums.push_back(slice.view_of(bits).sum(torch::kLong));
  return torch::stack(sums);
}

/// The ranks with the rarest value, as text; of two ranks that differ, both.
std::string odd_ranks(const at::Tensor& values) {
  std::map<int64_t, std::vector<int64_t>> ranks_of;
  for (int64_t rank = 0; rank < values.size(0); ++rank)
    ranks_of[values[rank].item<int64_t>()].push_back(rank);
  size_t fewest = static_cast<size_t>(values.size(0));
  for (const auto& [value, ranks] : ranks_of) fewest = std::min(fewest, ranks.size());
  std::vector<int64_t> odd;
  for (const auto& [value, ranks] : ranks_of)
    if (ranks.size() == fewest) odd.insert(odd.end(), ranks.begin(), ranks.end());
  return fmt::format("{}", fmt::join(odd, ", "));
}

}  // namespace

void check_replicas(const FlatParameters& parameters, ProcessGroup& group) {
  if (group.world() == 1) return;
  const torch::NoGradGuard no_grad;
  const auto own = bit_sums(parameters);
  auto all = torch::empty({group.world() * own.numel()}, own.options());
  group.all_gather(all, own);
  all = all.view({group.world(), -1}).cpu();
  const auto differs = all.ne(all[0]).any(0);
  for (size_t i = 0; i < parameters.slices().size(); ++i)
    if (const auto parameter = static_cast<int64_t>(i); differs[parameter].item<bool>())
      throw Error(
          "the weights of the ranks differ: rank {} has another {} than the rest; a faulty memory "
          "or processor, or another build, on one of them; go on from the last checkpoint without "
          "it",
          odd_ranks(all.select(1, parameter)), parameters.slices()[i].name);
}

}  // namespace dalle
