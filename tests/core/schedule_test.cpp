#include "core/schedule.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace dalle {
namespace {

class ScheduleTest : public testing::TestWithParam<ScheduleShape> {
 protected:
  const Schedule schedule_{.shape = GetParam(), .from = 1.0, .to = 0.0625, .steps = 1000};
};

TEST_P(ScheduleTest, EndsAtItsLastValueAndStaysThere) {
  EXPECT_DOUBLE_EQ(schedule_.at(1000), 0.0625);
  EXPECT_DOUBLE_EQ(schedule_.at(1'000'000), 0.0625);
}

TEST_P(ScheduleTest, StartsAtItsFirstValueUnlessConstant) {
  EXPECT_DOUBLE_EQ(schedule_.at(0), GetParam() == ScheduleShape::kConstant ? 0.0625 : 1.0);
}

TEST_P(ScheduleTest, IsMonotonic) {
  for (int64_t step = 0; step < 1000; ++step)
    EXPECT_GE(schedule_.at(step), schedule_.at(step + 1)) << step;
}

INSTANTIATE_TEST_SUITE_P(Shapes, ScheduleTest,
                         testing::Values(ScheduleShape::kConstant, ScheduleShape::kLinear,
                                         ScheduleShape::kHalfCosine, ScheduleShape::kQuarterCosine),
                         [](const auto& shape) { return std::string(to_string(shape.param)); });

TEST(Schedule, HasThePublishedFormulas) {
  const auto at = [](ScheduleShape shape, int64_t step) {
    return Schedule{.shape = shape, .from = 2.0, .to = 1.0, .steps = 4}.at(step);
  };
  EXPECT_DOUBLE_EQ(at(ScheduleShape::kLinear, 1), 1.75);
  EXPECT_DOUBLE_EQ(at(ScheduleShape::kHalfCosine, 2), 1.5);
  EXPECT_DOUBLE_EQ(at(ScheduleShape::kHalfCosine, 1), 1 + (1 + std::numbers::sqrt2 / 2) / 2);
  EXPECT_DOUBLE_EQ(at(ScheduleShape::kQuarterCosine, 2), 1 + std::numbers::sqrt2 / 2);
}

TEST(Schedule, CanRise) {
  const Schedule kl_weight{
      .shape = ScheduleShape::kHalfCosine, .from = 0.0, .to = 6.6, .steps = 5000};
  EXPECT_DOUBLE_EQ(kl_weight.at(0), 0.0);
  EXPECT_NEAR(kl_weight.at(2500), 3.3, 1e-12);
  EXPECT_DOUBLE_EQ(kl_weight.at(5000), 6.6);
}

}  // namespace
}  // namespace dalle
