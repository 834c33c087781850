#include "dalle/core/machine.h"

#include <string>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(Processor, IsReadFromTheSystemsText) {
  const Processor processor = parse_processor(
      "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu avx2 avx512_bf16 fma\n"
      "processor\t: 1\nmodel name\t: Another\nflags\t\t: fpu\n");
  EXPECT_EQ(processor.model, "Some CPU @ 2.0GHz");
  EXPECT_TRUE(processor.multiplies_bfloat16);
}

TEST(Processor, WithoutTheInstructionsDoesNotMultiplyBfloat16) {
  EXPECT_FALSE(parse_processor("flags\t\t: avx2 avx512f amx_tile\n").multiplies_bfloat16);
  EXPECT_TRUE(parse_processor("flags\t\t: amx_bf16 amx_tile\n").multiplies_bfloat16);
  EXPECT_FALSE(parse_processor("flags\t\t: not_avx512_bf16x\n").multiplies_bfloat16);
}

TEST(Processor, IsUnknownWhereTheSystemDoesNotSay) {
  EXPECT_EQ(parse_processor("").model, "unknown");
  EXPECT_EQ(parse_processor("no colon here").model, "unknown");
}

TEST(Processor, OfThisMachineHasANameOfOneLine) {
  EXPECT_FALSE(this_processor().model.empty());
  EXPECT_EQ(this_processor().model.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace dalle
