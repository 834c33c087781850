#include "data/batch.h"

#include <stdexcept>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

Sample sample_at(int64_t position) {
  return {.position = position,
          .image = torch::full({3, 4, 4}, position, torch::kByte),
          .codes = torch::full({5}, 10 * position, torch::kLong),
          .caption = torch::full({6}, 100 * position, torch::kLong),
          .text = "caption " + std::to_string(position)};
}

TEST(BatchTest, StacksSamplesInOrder) {
  const std::vector<Sample> samples = {sample_at(7), sample_at(3), sample_at(5)};
  const Batch batch = stack(samples);
  EXPECT_EQ(batch.size(), 3);
  EXPECT_THAT(batch.positions, testing::ElementsAre(7, 3, 5));
  EXPECT_THAT(batch.texts, testing::ElementsAre("caption 7", "caption 3", "caption 5"));
  EXPECT_EQ(batch.images.sizes(), (at::IntArrayRef{3, 3, 4, 4}));
  EXPECT_EQ(batch.images.scalar_type(), torch::kByte);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(torch::equal(batch.images[i], samples[static_cast<size_t>(i)].image));
    EXPECT_TRUE(torch::equal(batch.codes[i], samples[static_cast<size_t>(i)].codes));
    EXPECT_TRUE(torch::equal(batch.captions[i], samples[static_cast<size_t>(i)].caption));
  }
}

TEST(BatchTest, LeavesMissingTensorsUndefined) {
  std::vector<Sample> samples = {sample_at(1), sample_at(2)};
  for (Sample& sample : samples) sample.codes = at::Tensor();
  const Batch batch = stack(samples);
  EXPECT_FALSE(batch.codes.defined());
  EXPECT_TRUE(batch.images.defined());
  EXPECT_FALSE(batch.slice(0, 1).codes.defined());
}

TEST(BatchTest, SliceHoldsItsSamplesAndSharesMemory) {
  const std::vector<Sample> samples = {sample_at(0), sample_at(1), sample_at(2), sample_at(3)};
  Batch batch = stack(samples);
  const Batch middle = batch.slice(1, 3);
  EXPECT_EQ(middle.size(), 2);
  EXPECT_THAT(middle.positions, testing::ElementsAre(1, 2));
  EXPECT_THAT(middle.texts, testing::ElementsAre("caption 1", "caption 2"));
  EXPECT_TRUE(torch::equal(middle.codes, batch.codes.slice(0, 1, 3)));
  EXPECT_TRUE(torch::equal(middle.captions, batch.captions.slice(0, 1, 3)));
  batch.images[2].fill_(200);
  EXPECT_EQ(middle.images[1].min().item<int>(), 200);
  EXPECT_EQ(batch.slice(2, 2).size(), 0);
  EXPECT_THROW(batch.slice(1, 5), std::logic_error);
}

TEST(BatchTest, NamesSamplesThatCannotBeStacked) {
  const auto message_of = [](const Sample& odd) -> std::string {
    try {
      stack(std::vector{sample_at(1), odd});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  Sample larger = sample_at(2);
  larger.image = torch::zeros({3, 8, 4}, torch::kByte);
  EXPECT_EQ(message_of(larger),
            "samples 1 and 2 cannot be stacked: image is Byte [3, 4, 4] and Byte [3, 8, 4]");
  Sample typed = sample_at(2);
  typed.codes = typed.codes.to(torch::kInt);
  EXPECT_EQ(message_of(typed), "samples 1 and 2 cannot be stacked: codes is Long [5] and Int [5]");
  Sample partial = sample_at(2);
  partial.caption = at::Tensor();
  EXPECT_EQ(message_of(partial),
            "samples 1 and 2 cannot be stacked: caption is Long [6] and no tensor");
}

TEST(PadCaption, PadsOrTruncatesToTheLength) {
  const auto padded = pad_caption({5, 6}, 4);
  EXPECT_TRUE(padded.equal(torch::tensor({int64_t{5}, int64_t{6}, kPadToken, kPadToken})));
  EXPECT_TRUE(pad_caption({5, 6, 7}, 2).equal(torch::tensor({int64_t{5}, int64_t{6}})));
  EXPECT_TRUE(pad_caption({}, 2).equal(torch::full({2}, kPadToken, torch::kInt64)));
}

}  // namespace
}  // namespace dalle
