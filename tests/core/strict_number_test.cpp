#include "core/strict_number.h"

#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(StrictNumber, ReadsWholeNumbersExactly) {
  for (const int64_t number :
       {int64_t{0}, int64_t{7}, int64_t{-1}, int64_t{9'007'199'254'740'993},
        std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()})
    EXPECT_EQ(parse_integer(std::to_string(number)), number);
  EXPECT_EQ(parse_integer("+5"), 5);
}

TEST(StrictNumber, ReadsWholeNumbersWithExponents) {
  EXPECT_EQ(parse_integer("1e5"), 100'000);
  EXPECT_EQ(parse_integer("1E+5"), 100'000);
  EXPECT_EQ(parse_integer("2.5e3"), 2'500);
  EXPECT_EQ(parse_integer("-3e2"), -300);
  EXPECT_EQ(parse_integer("1200e-2"), 12);
  EXPECT_EQ(parse_integer("0e9999"), 0);
  EXPECT_EQ(parse_integer("9.007199254740993e15"), 9'007'199'254'740'993);
}

TEST(StrictNumber, RefusesWhatIsNoWholeNumber) {
  for (const char* text : {"",
                           "-",
                           "+",
                           ".",
                           "e5",
                           "1e",
                           "1.5",
                           "1.0",
                           "1.55e1",
                           "1e-1",
                           "010",
                           "00",
                           "-01",
                           "1_000",
                           "0x10",
                           "1 ",
                           " 1",
                           "1,5",
                           "one",
                           "--1",
                           "1e5e5",
                           "9223372036854775808",
                           "-9223372036854775809",
                           "1e19",
                           "1e99999",
                           "nan",
                           "inf",
                           "true",
                           "0b1"})
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
}

TEST(StrictNumber, ReadsDecimals) {
  EXPECT_EQ(parse_number("0"), 0.0);
  EXPECT_EQ(parse_number("-0.5"), -0.5);
  EXPECT_EQ(parse_number("+.5"), 0.5);
  EXPECT_EQ(parse_number("5."), 5.0);
  EXPECT_EQ(parse_number("4.5e-4"), 4.5e-4);
  EXPECT_EQ(parse_number("1E9"), 1e9);
  EXPECT_EQ(parse_number("1.7976931348623157e308"), std::numeric_limits<double>::max());
}

TEST(StrictNumber, RefusesWhatIsNoFiniteDecimal) {
  for (const char* text : {"", "-", ".", "e5", "1e", "1.2.3", "010.5", "01", "1_0.5", "0x1p3",
                           "nan", ".nan", "-.inf", "inf", "1e400", "-1e400", "1e-400", "1 ", "1f"})
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
}

TEST(StrictNumber, AdvisesOnTextThatLooksLikeANumber) {
  EXPECT_EQ(number_advice("010"), "without leading zeros");
  EXPECT_EQ(number_advice("-007.5"), "without leading zeros");
  EXPECT_EQ(number_advice("1_000"), "without underscores");
  for (const char* text : {"nan", ".nan", ".NaN", "inf", "-.inf", "+.Inf", "Infinity"})
    EXPECT_EQ(number_advice(text), "that is finite") << text;
  for (const char* text : {"", "abc", "a_b", "12", "0x10", "_"})
    EXPECT_EQ(number_advice(text), "") << text;
}

TEST(StrictNumber, AdvisesOnWholeNumbersThatAreTooLarge) {
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "1e19", "1e30"})
    EXPECT_EQ(integer_advice(text), "that fits in 64 bits") << text;
  for (const char* text : {"9223372036854775807", "-9223372036854775808", "7", "1.5", "abc", ""})
    EXPECT_EQ(integer_advice(text), "") << text;
  EXPECT_EQ(integer_advice("010"), "without leading zeros");
}

}  // namespace
}  // namespace dalle
