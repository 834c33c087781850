#include "core/number_range.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

#include "error_of.h"

namespace dalle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(NumberRange, NamesOnlyTheLimitsThatThereAre) {
  EXPECT_EQ(limits_text<int64_t>(1, 64), "from 1 to 64");
  EXPECT_EQ(limits_text<int64_t>(0, kNoLimit<int64_t>), "at least 0");
  EXPECT_EQ(range_phrase<int64_t>(0, kNoLimit<int64_t>), " of at least 0");
  EXPECT_EQ(range_phrase(0.0, 0.5), " from 0 to 0.5");
  EXPECT_EQ(range_phrase(-1.0, kInfinity), " of at least -1");
  EXPECT_EQ(range_phrase(-kInfinity, 2.5), " of at most 2.5");
  EXPECT_EQ(range_phrase(-kInfinity, kInfinity), "");
}

TEST(NumberRange, RefusesNumbersOutsideOfIt) {
  const auto error = [](auto found, auto min, auto max) {
    return error_of([&] { check_in_range("n", found, min, max); });
  };
  EXPECT_EQ(error(int64_t{1}, 1, 64), "no error");
  EXPECT_EQ(error(int64_t{64}, 1, 64), "no error");
  EXPECT_EQ(error(int64_t{0}, 1, 64), "n: found 0, expected an integer from 1 to 64");
  EXPECT_EQ(error(1.5, 0, 1), "n: found 1.5, expected a number from 0 to 1");
  EXPECT_EQ(error(std::nan(""), 0, 1), "n: found nan, expected a number from 0 to 1");
  EXPECT_EQ(error_of([] { check_in_range("n", int64_t{0}, 1); }),
            "n: found 0, expected an integer of at least 1");
}

}  // namespace
}  // namespace dalle
