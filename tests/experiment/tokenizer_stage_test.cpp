#include "experiment/stages/tokenizer_stage.h"

#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Images with three captions each, of which it remembers who was asked for.
class ManyCaptions : public Dataset {
 public:
  explicit ManyCaptions(int64_t size) : size_(size) {}

  int64_t size() const override { return size_; }
  std::string key(int64_t index) const override { return fmt::format("{}.jpg", index); }
  RawSample get(int64_t index) const override {
    return {.key = key(index), .image = "", .captions = captions(index)};
  }
  std::vector<std::string> captions(int64_t index) const override {
    asked_.push_back(index);
    return {"a red circle above a blue square", "a green ring", "a yellow cross on the left"};
  }
  const std::vector<int64_t>& asked() const { return asked_; }

 private:
  int64_t size_;
  mutable std::vector<int64_t> asked_;
};

std::string log_of_training(const ManyCaptions& dataset, int64_t limit) {
  const TemporaryDirectory folder;
  testing::internal::CaptureStderr();
  run_tokenizer_stage({.vocab_size = 280, .max_training_captions = limit}, dataset,
                      RunPaths(folder.path()), std::nullopt);
  return testing::internal::GetCapturedStderr();
}

TEST(TokenizerStage, ReadsCaptionsEvenlySpreadOverAllImages) {
  const ManyCaptions dataset(10);
  EXPECT_THAT(log_of_training(dataset, 6), HasSubstr("training on 6 captions"));
  EXPECT_THAT(dataset.asked(), ElementsAre(0, 1, 3, 5, 6, 8));
}

TEST(TokenizerStage, TakesAnEqualShareOfEachImagesCaptions) {
  const ManyCaptions dataset(4);
  EXPECT_THAT(log_of_training(dataset, 9), HasSubstr("training on 9 captions"));
  EXPECT_THAT(dataset.asked(), ElementsAre(0, 1, 2, 3));
}

TEST(TokenizerStage, ReadsAllCaptionsWithinTheLimit) {
  const ManyCaptions dataset(4);
  EXPECT_THAT(log_of_training(dataset, 1000), HasSubstr("training on 12 captions"));
}

}  // namespace
}  // namespace dalle
