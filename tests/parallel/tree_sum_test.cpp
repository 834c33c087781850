#include "parallel/tree_sum.h"

#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "error_of.h"
#include "ranks.h"

namespace dalle {
namespace {

/// Numbers whose sum depends on the order of additions.
std::vector<at::Tensor> terms(int64_t count, int64_t size) {
  torch::manual_seed(11);
  std::vector<at::Tensor> result;
  for (int64_t i = 0; i < count; ++i)
    result.push_back(torch::randn({size}) * torch::randn({size}).mul(4).exp());
  return result;
}

at::Tensor tree_of(const std::vector<at::Tensor>& all, size_t begin, size_t end) {
  if (end - begin == 1) return all[begin];
  const size_t middle = (begin + end) / 2;
  return tree_of(all, begin, middle) + tree_of(all, middle, end);
}

TEST(TreeSum, AddsNeighboursFirst) {
  for (const int64_t count : {1, 2, 4, 8, 32}) {
    const auto all = terms(count, 100);
    TreeSum sum;
    for (const auto& term : all) sum.add(term);
    EXPECT_TRUE(torch::equal(sum.total(), tree_of(all, 0, all.size()))) << count;
  }
}

TEST(TreeSum, DiffersFromARunningSum) {  // or the test above shows nothing
  const auto all = terms(32, 1000);
  auto running = all[0].clone();
  for (size_t i = 1; i < all.size(); ++i) running += all[i];
  EXPECT_FALSE(torch::equal(tree_of(all, 0, all.size()), running));
}

TEST(TreeSum, OfAnyNumberOfTermsIsTheirSum) {
  const auto all = terms(7, 10);
  TreeSum sum;
  auto expected = torch::zeros({10}, torch::kDouble);
  for (const auto& term : all) {
    sum.add(term);
    expected += term.to(torch::kDouble);
  }
  EXPECT_TRUE(torch::allclose(sum.total().to(torch::kDouble), expected, 1e-5, 1e-4));
}

TEST(TreeSum, LeavesItsTermsAloneAndBeginsAnew) {
  const auto all = terms(4, 10);
  TreeSum sum;
  for (int round = 0; round < 2; ++round) {
    sum.clear();
    for (const auto& term : all) sum.add(term);
    EXPECT_TRUE(torch::equal(sum.total(), tree_of(all, 0, 4))) << round;
  }
  EXPECT_TRUE(torch::equal(all[3], terms(4, 10)[3]));
  sum.clear();
  EXPECT_EQ(error_of([&] { sum.total(); }), "cannot sum zero tensors");
}

TEST(SumInTree, GivesTheSameBitsWhateverTheNumberOfRanks) {
  constexpr size_t kTerms = 8;
  for (const int64_t size : {16, 1003}) {  // the second is no multiple of the ranks
    const auto all = terms(kTerms, size);
    const auto expected = tree_of(all, 0, kTerms);
    for (const int64_t world : {1, 2, 4, 8}) {
      on_ranks(world, [&](ProcessGroup& group) {
        TreeSum own;
        const size_t each = kTerms / static_cast<size_t>(world);
        for (size_t i = 0; i < each; ++i)
          own.add(all[static_cast<size_t>(group.rank()) * each + i]);
        const auto total = own.total().clone();
        sum_in_tree(group, total);
        EXPECT_TRUE(torch::equal(total, expected)) << world << " ranks, " << size << " elements";
      });
    }
  }
}

TEST(ReduceScatterInTree, GivesEachRankItsPart) {
  const auto all = terms(4, 16);
  on_ranks(4, [&](ProcessGroup& group) {
    const auto own = all[static_cast<size_t>(group.rank())].clone();
    reduce_scatter_in_tree(group, own);
    EXPECT_TRUE(torch::equal(own.view({4, 4})[group.rank()],
                             tree_of(all, 0, 4).view({4, 4})[group.rank()]));
  });
}

}  // namespace
}  // namespace dalle
