#include "data/rank_slice.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "data/batch_loader.h"
#include "data/epoch_permutation.h"

namespace dalle {
namespace {

/// A run that is repeatedly killed and resumed from its last checkpoint with a different number of
/// ranks.
class ResizedRun {
 public:
  explicit ResizedRun(uint64_t seed) : random_(seed), batch_size_(between(1, 40)) {}

  /// The global positions in the order of training, without those of lost steps.
  std::vector<int64_t> train(bool with_loader) {
    const int64_t lives = between(1, 5);
    for (int64_t life = 0; life < lives; ++life) live(with_loader);
    return positions_;
  }

 private:
  int64_t between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  void live(bool with_loader) {
    const int64_t world = between(1, std::min<int64_t>(batch_size_, 9));
    const int64_t save_every = between(1, 4), steps = between(0, 9);
    std::vector<std::vector<int64_t>> seen;  // by rank
    for (int64_t rank = 0; rank < world; ++rank)
      seen.push_back(with_loader ? loaded(rank, world, steps) : counted(rank, world, steps));
    const int64_t saved = steps - steps % save_every;
    for (int64_t step = 0; step < saved; ++step)
      for (const std::vector<int64_t>& of_rank : seen) {
        const int64_t size = static_cast<int64_t>(of_rank.size()) / steps;
        positions_.insert(positions_.end(), of_rank.begin() + step * size,
                          of_rank.begin() + (step + 1) * size);
      }
    saved_step_ += saved;
  }

  std::vector<int64_t> counted(int64_t rank, int64_t world, int64_t steps) const {
    const RankSlice part(batch_size_, rank, world);
    std::vector<int64_t> seen;
    for (int64_t number = saved_step_ * part.size(); number < (saved_step_ + steps) * part.size();
         ++number)
      seen.push_back(part.position(number));
    return seen;
  }

  std::vector<int64_t> loaded(int64_t rank, int64_t world, int64_t steps) {
    const RankSlice part(batch_size_, rank, world);
    const auto make = [&](int64_t number) {
      Sample sample;
      sample.position = part.position(number);
      sample.codes = torch::zeros({1}, torch::kLong);
      return sample;
    };
    BatchLoader loader(make, {.batch_size = part.size(),
                              .first_position = saved_step_ * part.size(),
                              .workers = between(1, 4),
                              .prefetch = between(1, 3)});
    std::vector<int64_t> seen;
    for (int64_t step = 0; step < steps; ++step)
      for (const int64_t position : loader.next().positions) seen.push_back(position);
    return seen;
  }

  std::mt19937_64 random_;
  int64_t batch_size_;
  int64_t saved_step_ = 0;
  std::vector<int64_t> positions_;
};

TEST(RankSlice, VisitsEveryPositionOnceAndInOrderAcrossResizes) {
  for (uint64_t seed = 0; seed < 10'000; ++seed) {
    const std::vector<int64_t> positions = ResizedRun(seed).train(/*with_loader=*/seed % 100 == 0);
    for (size_t i = 0; i < positions.size(); ++i)
      ASSERT_EQ(positions[i], static_cast<int64_t>(i)) << "seed " << seed;
  }
}

TEST(RankSlice, VisitsEverySampleOncePerEpochAcrossResizes) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const std::vector<int64_t> positions = ResizedRun(seed).train(/*with_loader=*/false);
    const EpochPermutation order(seed, 1 + static_cast<int64_t>(seed) % 23);
    const size_t size = static_cast<size_t>(order.size());
    for (size_t begin = 0; begin + size <= positions.size(); begin += size) {
      std::vector<bool> seen(size);
      for (size_t i = begin; i < begin + size; ++i)
        seen[static_cast<size_t>(order.index(positions[i]))] = true;
      ASSERT_EQ(std::ranges::count(seen, false), 0) << "seed " << seed;
    }
  }
}

TEST(RankSlice, SizesDifferByOneAtMost) {
  for (int64_t world = 1; world < 20; ++world)
    for (int64_t rank = 0; rank < world; ++rank) {
      const int64_t size = RankSlice(23, rank, world).size();
      EXPECT_TRUE(size == 23 / world || size == 23 / world + 1) << rank << " of " << world;
    }
}

}  // namespace
}  // namespace dalle
