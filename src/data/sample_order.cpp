#include "dalle/data/sample_order.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "dalle/core/error.h"
#include "dalle/core/seeds.h"

namespace dalle {
namespace {

/// Four rounds make a pseudorandom permutation of a large domain (Luby and Rackoff 1988). Where a
/// half has few bits there are few round functions, and more rounds are what mixes.
constexpr uint64_t kRounds = 8;

/// A bijection of the 2 * half_bits bit numbers: whatever the round function, swapping the halves
/// and undoing the exclusive or leads back.
uint64_t feistel(uint64_t value, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t bits = mix_bits(mix_bits(key + round) ^ right);
    left = std::exchange(right, left ^ (bits & mask));
  }
  return (left << half_bits) | right;
}

}  // namespace

SampleOrder::SampleOrder(uint64_t seed, int64_t size) : seed_(seed), size_(size) {
  if (size < 1) throw Error("the data set has {} samples, expected at least 1", size);
  const int bits = std::bit_width(static_cast<uint64_t>(size - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

int64_t SampleOrder::index(int64_t position) const {
  DALLE_CHECK(position >= 0);
  const uint64_t key =
      derive_seed(seed_, SeedPurpose::kSampleOrder, static_cast<uint64_t>(epoch(position)));
  const auto size = static_cast<uint64_t>(size_);
  auto value = static_cast<uint64_t>(position % size_);
  // Cycle walking: the domain is less than four times the size (or has four numbers), so three
  // steps are the most to expect; the cycle that starts below `size` must come back below it.
  do value = feistel(value, half_bits_, key);
  while (value >= size);
  return static_cast<int64_t>(value);
}

}  // namespace dalle
