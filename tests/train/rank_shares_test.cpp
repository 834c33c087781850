#include "train/rank_shares.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/stop_signal.h"
#include "ranks.h"
#include "train/evaluation.h"

namespace dalle {
namespace {

const CheckStop kNeverStopped = [] {};

TEST(RunOnRanks, EveryItemHasOneRankAndEveryRankAllResults) {
  on_ranks(3, [](ProcessGroup& group) {
    const auto results = run_on_ranks(group, kNeverStopped, [](const RankShare& share) {
      std::string items;
      for (int64_t item = 0; item < 7; ++item)
        if (share.has(item)) items += std::to_string(item);
      return items;
    });
    EXPECT_EQ(results, (std::vector<std::string>{"036", "14", "25"}));
  });
}

TEST(RunOnRanks, AStopThatOneRankNoticesIsTheStopOfAll) {
  on_ranks(2, [](ProcessGroup& group) {
    const auto run = [&] {
      run_on_ranks(group, kNeverStopped, [](const RankShare& share) -> std::string {
        if (share.rank == 1) throw StopRequested();
        return "finished";
      });
    };
    EXPECT_THROW(run(), StopRequested);
    EXPECT_TRUE(group.any(group.rank() == 1));
    EXPECT_FALSE(group.any(false));
  });
}

TEST(RunOnRanks, TheOthersNameTheRankWhoseWorkFailed) {
  on_ranks(3, [](ProcessGroup& group) {
    const std::string error = error_of([&] {
      run_on_ranks(group, kNeverStopped, [](const RankShare& share) -> std::string {
        if (share.rank == 1) throw Error("no space left on device");
        return "finished";
      });
    });
    EXPECT_EQ(error,
              group.rank() == 1 ? "no space left on device" : "rank 1: no space left on device");
  });
}

TEST(EvaluationParts, AddUpToTheSameBitsForAnyNumberOfRanks) {
  const auto batch = [](int64_t number) {
    RunningMeans means;
    means.add("loss", 1.0 / (3.0 + static_cast<double>(number)), 3 + number % 2);
    means.add("kl", 1e9 / (7.0 + static_cast<double>(number)), 2);
    return means;
  };
  RunningMeans expected;
  for (int64_t number = 0; number < 11; ++number) expected.add(batch(number));
  for (const int64_t world : {1, 2, 3, 16}) {
    std::vector<std::string> parts;
    for (int64_t rank = 0; rank < world; ++rank) {
      EvaluationPart part{.batches = {}, .histogram = {rank, 1}};
      const RankShare share{.rank = rank, .world_size = world};
      for (int64_t number = 0; number < 11; ++number)
        if (share.has(number)) part.batches[number] = batch(number);
      parts.push_back(to_bytes(part));
    }
    const auto totals = add_up(parts);
    ASSERT_TRUE(totals.has_value());
    EXPECT_EQ(totals->means.means(), expected.means()) << world;
    EXPECT_EQ(totals->histogram, (std::vector<int64_t>{world * (world - 1) / 2, world}));
  }
}

TEST(EvaluationParts, KeepWhatIsNotFiniteAndAreNothingWithoutUsableSamples) {
  EvaluationPart part;
  part.batches[4].add("infinite", std::numeric_limits<double>::infinity(), 1);
  part.batches[4].add("undefined", std::numeric_limits<double>::quiet_NaN(), 1);
  const std::vector<std::string> one = {to_bytes(part)};
  const auto totals = add_up(one);
  ASSERT_TRUE(totals.has_value());
  EXPECT_TRUE(std::isinf(totals->means.mean("infinite")));
  EXPECT_TRUE(std::isnan(totals->means.mean("undefined")));
  const std::vector<std::string> unusable = {to_bytes(part), to_bytes(std::nullopt)};
  EXPECT_FALSE(add_up(unusable).has_value());
  const std::vector<std::string> none = {to_bytes(EvaluationPart())};
  EXPECT_FALSE(add_up(none).has_value());
}

TEST(ImageParts, AreJoinedInTheOrderOfTheirGroups) {
  const auto image = [](uint8_t level) {
    return RgbImage{.width = 1, .height = 1, .pixels = {level, 0, 255}};
  };
  const std::vector<std::string> parts = {
      to_bytes(ImagePart{.groups = {{1, {image(1), image(2)}}}, .out_of_memory = ""}),
      to_bytes(ImagePart{.groups = {{0, {image(7)}}, {2, {}}}, .out_of_memory = ""})};
  const ImagePart all = join(parts);
  EXPECT_EQ(all.groups, (ImageGroups{{0, {image(7)}}, {1, {image(1), image(2)}}, {2, {}}}));
  EXPECT_TRUE(all.out_of_memory.empty());
}

}  // namespace
}  // namespace dalle
