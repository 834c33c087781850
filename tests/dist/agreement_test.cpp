#include "dist/agreement.h"

#include <gtest/gtest.h>

#include "ranks.h"

namespace dalle {
namespace {

std::string disagreement(const std::vector<std::string>& texts) {
  std::vector<std::string> errors(texts.size());
  on_ranks(static_cast<int64_t>(texts.size()), [&](ProcessGroup& group) {
    const auto rank = static_cast<size_t>(group.rank());
    errors[rank] = error_of([&] { check_agreement(group, "config", texts[rank]); });
  });
  for (const std::string& error : errors) EXPECT_EQ(error, errors[0]);
  return errors[0];
}

TEST(Agreement, AcceptsEqualTexts) {
  EXPECT_EQ(disagreement({"a: 1\n", "a: 1\n", "a: 1\n"}), "no error");
  EXPECT_EQ(disagreement({"", ""}), "no error");
}

TEST(Agreement, NamesTheRankAndTheLineThatDiffer) {
  EXPECT_EQ(disagreement({"a: 1\n  b: 2\n", "a: 1\n  b: 2\n", "a: 1\n  b: 3\n"}),
            "rank 2: config differs from that of rank 0: found \"b: 3\", expected \"b: 2\"");
  EXPECT_EQ(disagreement({"a: 1\n", "a: 1\nb: 3\n"}),
            "rank 1: config differs from that of rank 0: found \"b: 3\", expected \"nothing\"");
}

TEST(Agreement, CountsTheRanksThatAgreeWithEachRank) {
  const std::vector<std::string> texts{"node1 0 1", "node1 2 3", "node1 0 1", "node2 0 1"};
  const std::vector<int64_t> expected{2, 1, 2, 1};
  on_ranks(4, [&](ProcessGroup& group) {
    const auto rank = static_cast<size_t>(group.rank());
    EXPECT_EQ(count_agreeing(group, texts[rank]), expected[rank]);
  });
}

}  // namespace
}  // namespace dalle
