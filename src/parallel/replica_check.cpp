#include "parallel/replica_check.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

/// [parameters] int64: the sum over each parameter of its bits, read as 32-bit numbers, times
/// 2 i + 1 for the i-th of the flat buffer. It is modulo 2^64, where odd factors lose no bit.
at::Tensor bit_sums(const FlatParameters& parameters) {
  const torch::NoGradGuard no_grad;
  const auto bits = parameters.values().view(torch::kInt);
  // Values of which a copy is made at a time: few kernels on a GPU, and what fits in a CPU's cache.
  const int64_t chunk = bits.is_cuda() ? 1 << 22 : 1 << 16;
  const auto options = bits.options().dtype(torch::kLong);
  const auto sums = torch::zeros({static_cast<int64_t>(parameters.slices().size())}, options);
  for (size_t n = 0; n < parameters.slices().size(); ++n) {
    const FlatParameters::Slice& slice = parameters.slices()[n];
    const auto sum = sums[static_cast<int64_t>(n)];
    const int64_t end = slice.offset + slice.size;
    for (int64_t begin = slice.offset; begin < end; begin += chunk) {
      const int64_t size = std::min(chunk, end - begin);
      const auto factors = torch::arange(2 * begin + 1, 2 * (begin + size) + 1, 2, options);
      sum.add_(bits.narrow(0, begin, size).to(torch::kLong).mul_(factors).sum());
    }
  }
  return sums;
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

void WeightChecksum::set(const FlatParameters& parameters) {
  sums_ = bit_sums(parameters);
}

std::string WeightChecksum::changed_parameter(const FlatParameters& parameters) const {
  const at::Tensor sums = bit_sums(parameters);
  if (at::equal(sums, sums_)) return "";
  const auto changed = sums.ne(sums_).nonzero()[0].item<int64_t>();
  return parameters.slices()[static_cast<size_t>(changed)].name;
}

void check_replicas(const FlatParameters& parameters, ProcessGroup& group) {
  if (group.world_size() == 1) return;
  const auto own = bit_sums(parameters);
  auto all = torch::empty({group.world_size() * own.numel()}, own.options());
  group.all_gather(all, own);
  all = all.view({group.world_size(), -1}).cpu();
  const auto differs = all.ne(all[0]).any(0);
  for (size_t i = 0; i < parameters.slices().size(); ++i)
    if (const auto parameter = static_cast<int64_t>(i); differs[parameter].item<bool>())
      throw Error(
          "the weights of the ranks differ: {} of rank {} differs from the others'; the cause is "
          "probably faulty memory, a faulty processor or a different build; exclude that machine "
          "and resume from the last checkpoint",
          parameters.slices()[i].name, odd_ranks(all.select(1, parameter)));
}

}  // namespace dalle
