#include "experiment/stages/experiment_data.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Samples of which the first `silent` of every hundred have no valid caption.
class PartlyCaptioned : public Dataset {
 public:
  PartlyCaptioned(int64_t size, int64_t silent) : size_(size), silent_(silent) {}

  int64_t size() const override { return size_; }
  RawSample get(int64_t index) const override {
    return {.key = key(index), .image = "", .captions = captions(index)};
  }
  std::string key(int64_t index) const override { return fmt::format("{:03}.jpg", index); }
  std::vector<std::string> captions(int64_t index) const override {
    return {index % 100 < silent_ ? " " : "a caption"};
  }
  std::string missing_caption(int64_t) const override { return "nothing next to it"; }

 private:
  int64_t size_;
  int64_t silent_;
};

TEST(RequireCaptions, NamesASampleAndWhereItsCaptionWasSearchedFor) {
  EXPECT_THAT(
      error_of([] { require_captions(PartlyCaptioned(24, 100), 0.05); }),
      AllOf(HasSubstr("24 of 24 training samples that were checked have no valid caption, for "
                      "example 000.jpg: nothing next to it"),
            HasSubstr("--stage dvae")));
}

TEST(RequireCaptions, SaysHowManySamplesMayBeInvalid) {
  class Damaged : public PartlyCaptioned {
   public:
    using PartlyCaptioned::PartlyCaptioned;
    std::vector<std::string> captions(int64_t) const override { throw Error("a duplicate"); }
  };
  EXPECT_EQ(error_of([] { require_captions(Damaged(24, 0), 0.05); }),
            "24 of 24 training samples that were checked have no valid caption, for example "
            "000.jpg: a duplicate; data.max_invalid_fraction allows 0.05");
}

TEST(RequireCaptions, AllowsAsManyWithoutAsTheStageDalleDoes) {
  EXPECT_EQ(error_of([] { require_captions(PartlyCaptioned(100, 5), 0.05); }), "no error");
  EXPECT_THAT(error_of([] { require_captions(PartlyCaptioned(100, 6), 0.05); }),
              HasSubstr("6 of 100"));
  EXPECT_EQ(error_of([] { require_captions(PartlyCaptioned(100, 99), 1.0); }), "no error");
  EXPECT_THAT(error_of([] { require_captions(PartlyCaptioned(100, 100), 1.0); }),
              HasSubstr("100 of 100"));
}

TEST(RequireCaptions, JudgesALargeDataSetByAFewSamples) {
  constexpr int64_t kLarge = 256 * int64_t{1'000'037};  // every 37th of a hundred is checked
  EXPECT_EQ(error_of([] { require_captions(PartlyCaptioned(kLarge, 6), 0.05); }), "no error");
  EXPECT_THAT(error_of([] { require_captions(PartlyCaptioned(kLarge, 50), 0.05); }),
              HasSubstr("of 256 training samples"));
}

}  // namespace
}  // namespace dalle
