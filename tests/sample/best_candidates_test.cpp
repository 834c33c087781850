#include "sample/best_candidates.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Candidate<std::string> candidate(int64_t number, double score) {
  return {.number = number, .score = score, .content = std::to_string(number)};
}

std::vector<int64_t> candidate_numbers(const BestCandidates<std::string>& candidates) {
  std::vector<int64_t> numbers;
  for (const Candidate<std::string>& one : candidates.best()) {
    EXPECT_EQ(one.content, std::to_string(one.number));
    numbers.push_back(one.number);
  }
  return numbers;
}

TEST(BestCandidates, KeepsTheHighestScoresInAnyOrderOfArrival) {
  std::vector<std::pair<int64_t, double>> scores = {{0, .3}, {1, -.1}, {2, .9}, {3, .3}, {4, .5}};
  std::ranges::sort(scores);
  do {
    BestCandidates<std::string> candidates(3);
    for (const auto& [number, score] : scores) candidates.add(candidate(number, score));
    EXPECT_THAT(candidate_numbers(candidates),
                ElementsAre(2, 4, 0));  // of equal scores the lower number
    EXPECT_EQ(candidates.added(), 5);
  } while (std::ranges::next_permutation(scores).found);
}

TEST(BestCandidates, KeepsAllThatThereAre) {
  BestCandidates<std::string> candidates(3);
  EXPECT_THAT(candidate_numbers(candidates), IsEmpty());
  candidates.add(candidate(7, 1));
  candidates.add(candidate(5, 2));
  EXPECT_THAT(candidate_numbers(candidates), ElementsAre(5, 7));
}

}  // namespace
}  // namespace dalle
