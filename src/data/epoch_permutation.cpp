#include "data/epoch_permutation.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/error.h"
#include "core/seeds.h"

namespace dalle {
namespace {

/// Four rounds make a pseudorandom permutation of a large domain (Luby and Rackoff 1988). Small
/// domains have few distinct round functions and need more rounds to mix.
constexpr uint64_t kRounds = 8;

/// A Feistel network: a bijection of the numbers of 2 * half_bits bits for any round function.
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

EpochPermutation::EpochPermutation(uint64_t seed, int64_t size) : seed_(seed), size_(size) {
  if (size < 1) throw Error("the data set has {} samples, expected at least 1", size);
  const int bits = std::bit_width(static_cast<uint64_t>(size - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

int64_t EpochPermutation::index(int64_t position) const {
  DALLE_CHECK(position >= 0);
  const uint64_t key =
      derive_seed(seed_, SeedPurpose::kEpochPermutation, static_cast<uint64_t>(epoch(position)));
  const auto size = static_cast<uint64_t>(size_);
  auto value = static_cast<uint64_t>(position % size_);
  // Cycle walking: the cycle starts below `size`, so it returns below it. The domain has fewer than
  // four times `size` numbers (or just four), so this takes fewer than four steps on average.
  do value = feistel(value, half_bits_, key);
  while (value >= size);
  return static_cast<int64_t>(value);
}

}  // namespace dalle
