#include "dist/heartbeat_status.h"

#include <chrono>

#include <gtest/gtest.h>

namespace dalle {
namespace {

using namespace std::chrono_literals;

TEST(HeartbeatStatus, SurvivesARoundTrip) {
  const RankStatus status{
      .activity = Activity::kWaiting, .age = 1500ms, .place = "step 41, computing (all-reduce)"};
  const RankStatus parsed = parse_status(format_status(7, status));
  EXPECT_EQ(parsed.activity, status.activity);
  EXPECT_EQ(parsed.age, status.age);
  EXPECT_EQ(parsed.place, status.place);
  EXPECT_NE(format_status(7, status), format_status(8, status));
}

TEST(HeartbeatStatus, OfOtherTextsHasNoActivity) {
  EXPECT_EQ(parse_status("").place, "startup");
  EXPECT_EQ(parse_status("left").place, "left");
  EXPECT_EQ(parse_status("left").activity, Activity::kUnknown);
  EXPECT_EQ(parse_status("7;").activity, Activity::kUnknown);
}

}  // namespace
}  // namespace dalle
