#include "sample/image_prompt.h"

#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"
#include "data/image/image.h"
#include "data/test_images.h"
#include "sample/generate_codes.h"

namespace dalle::image_prompt_test {  // test sources are joined, and others use the same names
namespace {

constexpr int64_t kSize = 16, kGrid = 4;

/// A PNG file of 0 and 255, white where `light` is set.
std::string gray_mask(const at::Tensor& light) {
  return encode_image(
      tensor_to_image(light.to(at::kByte).mul(255).expand({3, -1, -1}).contiguous()),
      ImageFormat::kPng);
}

/// A PNG file that is transparent except where `opaque` is set, and dark everywhere.
std::string alpha_mask(const at::Tensor& opaque, int alpha = 255) {
  const auto height = static_cast<int>(opaque.size(0)), width = static_cast<int>(opaque.size(1));
  cv::Mat pixels(height, width, CV_8UC4, cv::Scalar(9, 9, 9, 0));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      if (opaque[y][x].item<bool>()) pixels.at<cv::Vec4b>(y, x)[3] = static_cast<uint8_t>(alpha);
  return encoded(pixels, ".png");
}

at::Tensor rectangle(int64_t height, int64_t width, const PixelRectangle& kept) {
  at::Tensor mask = torch::zeros({height, width}, at::kBool);
  mask.narrow(0, kept.y, kept.height).narrow(1, kept.x, kept.width).fill_(true);
  return mask;
}

TEST(ImagePrompt, KeepsTheUpperRows) {
  EXPECT_EQ(keep_upper_rows(0, 100).sum().item<int64_t>(), 0);
  EXPECT_EQ(keep_upper_rows(1, 100).sum().item<int64_t>(), 10'000);
  EXPECT_TRUE(torch::equal(keep_upper_rows(0.29, 100), rectangle(100, 100, {0, 0, 100, 29})));
  EXPECT_TRUE(torch::equal(keep_upper_rows(0.299, 100), rectangle(100, 100, {0, 0, 100, 29})));
}

TEST(ImagePrompt, KeepsARectangleInsideTheImage) {
  EXPECT_TRUE(torch::equal(keep_rectangle({2, 3, 5, 13}, kSize), rectangle(16, 16, {2, 3, 5, 13})));
  for (const PixelRectangle& outside :
       {PixelRectangle{-1, 0, 2, 2}, PixelRectangle{0, 15, 2, 2}, PixelRectangle{0, 0, 17, 2},
        PixelRectangle{0, 0, 0, 2}, PixelRectangle{0, 0, 2, 0},
        PixelRectangle{INT64_MAX, 0, 16, 2}})
    EXPECT_THROW(keep_rectangle(outside, kSize), Error);
}

TEST(ImagePrompt, KeepsACodeIfAllOfItsPixelsAreKept) {
  const at::Tensor codes = kept_codes(keep_rectangle({3, 4, 10, 9}, kSize), kGrid);
  EXPECT_TRUE(torch::equal(codes, rectangle(4, 4, {1, 1, 2, 2})));
  EXPECT_TRUE(kept_codes(keep_upper_rows(1, kSize), kGrid).all().item<bool>());
}

TEST(ImagePrompt, CountsKeptCodesThatComeAfterGeneratedOnes) {
  EXPECT_EQ(count_unseen(rectangle(4, 4, {0, 0, 4, 2})), 0);  // the upper half
  EXPECT_EQ(count_unseen(rectangle(4, 4, {0, 0, 2, 4})), 6);  // the left one: all but its first row
  EXPECT_EQ(count_unseen(rectangle(4, 4, {0, 3, 4, 1})), 4);
  EXPECT_EQ(count_unseen(torch::ones({4, 4}, at::kBool)), 0);
  EXPECT_EQ(count_unseen(torch::zeros({4, 4}, at::kBool)), 0);
}

TEST(ImagePrompt, KeepsTheOpaquePartOfAMaskOrElseItsLightPart) {
  const RgbImage original = gradient_image(kSize, kSize);
  const at::Tensor kept = rectangle(16, 16, {0, 0, 16, 7});
  EXPECT_TRUE(torch::equal(keep_masked(alpha_mask(kept), original, kSize), kept));
  EXPECT_TRUE(torch::equal(keep_masked(alpha_mask(kept, 128), original, kSize), kept));
  EXPECT_FALSE(keep_masked(alpha_mask(kept, 127), original, kSize).any().item<bool>());
  EXPECT_TRUE(torch::equal(keep_masked(gray_mask(kept), original, kSize), kept));
  EXPECT_TRUE(keep_masked(gray_mask(kept.new_ones({16, 16})), original, kSize).all().item<bool>());
  for (const std::string& mask : {alpha_mask(kept), gray_mask(kept)})
    EXPECT_TRUE(
        torch::equal(keep_masked(mask, original, kSize, MaskKeeps::kTransparentOrDark), ~kept));
}

TEST(ImagePrompt, CropsAndScalesAMaskLikeTheImage) {
  const RgbImage wide = gradient_image(64, 32);
  // The crop is columns 16 to 47, and each pixel of the result stands for four.
  const at::Tensor kept = rectangle(32, 64, {0, 0, 33, 9});
  EXPECT_TRUE(
      torch::equal(keep_masked(gray_mask(kept), wide, kSize), rectangle(16, 16, {0, 0, 8, 4})));
  EXPECT_TRUE(torch::equal(keep_masked(gray_mask(rectangle(16, 16, {1, 2, 3, 4})), wide, kSize),
                           rectangle(16, 16, {1, 2, 3, 4})));
  EXPECT_THROW(keep_masked(gray_mask(rectangle(64, 32, {0, 0, 1, 1})), wide, kSize), Error);
  EXPECT_THROW(keep_masked("no image", wide, kSize), Error);
}

TEST(ImagePrompt, OnePixelThatIsNotKeptIsNotAveragedAway) {
  const RgbImage large = gradient_image(1024, 1024);
  at::Tensor kept = torch::ones({1024, 1024}, at::kBool);
  kept[70][130] = false;
  at::Tensor expected = torch::ones({16, 16}, at::kBool);
  expected[1][2] = false;
  EXPECT_TRUE(torch::equal(keep_masked(gray_mask(kept), large, kSize), expected));
}

DiscreteVae small_vae() {
  DiscreteVae vae(DiscreteVaeConfig{
      .groups = 3, .blocks_per_group = 1, .hidden = 8, .vocab_size = 16, .codebook_width = 8});
  vae->initialize(at::make_generator<at::CPUGeneratorImpl>(4));
  return vae;
}

TEST(ImagePrompt, GivesTheEncodersCodesWhereTheyAreKept) {
  DiscreteVae vae = small_vae();
  const RgbImage image = gradient_image(kSize, kSize);
  const at::Tensor pixels = image_to_tensor(image).unsqueeze(0).to(at::kFloat).div(255);
  const at::Tensor codes = vae->encode(pixels).flatten();
  const at::Tensor kept = rectangle(4, 4, {0, 0, 4, 2}).flatten();
  const at::Tensor found = prompt_codes(vae, image, kept.view({4, 4}));
  EXPECT_TRUE(torch::equal(found.masked_select(kept), codes.masked_select(kept)));
  EXPECT_TRUE(found.masked_select(~kept).eq(kFreeCode).all().item<bool>());
}

TEST(ImagePrompt, IsPreparedFromWhatIsKept) {
  const DiscreteVae vae = small_vae();
  ImagePromptRequest request{.image = gray_mask(torch::ones({20, 30}, at::kBool)),
                             .keep = PixelRectangle{0, 4, 16, 8},
                             .variation = 0.25};
  const ImagePrompt prompt = prepare_image_prompt(request, vae, kSize, 255);
  EXPECT_EQ(prompt.image.width, kSize);
  EXPECT_TRUE(torch::equal(prompt.kept_pixels, rectangle(16, 16, {0, 4, 16, 8})));
  EXPECT_TRUE(
      torch::equal(prompt.forced.ne(kFreeCode).view({4, 4}), rectangle(4, 4, {0, 1, 4, 2})));
  EXPECT_EQ(prompt.variation, 0.25);
  EXPECT_EQ(prompt.kept, 8);
  EXPECT_EQ(prompt.unseen, 8);
  request.keep.reset();
  EXPECT_EQ(prepare_image_prompt(request, vae, kSize, 255).kept, 16);
}

TEST(ImagePrompt, BlamesWhatIsWrong) {
  const std::string image = gray_mask(torch::ones({16, 16}, at::kBool));
  const auto blamed = [](const ImagePromptRequest& request) {
    try {
      prepare_image_prompt(request, small_vae(), kSize, 255);
    } catch (const ImagePromptError& error) {
      return fmt::format("{}: {}", error.member, error.what());
    }
    return std::string("nothing");
  };
  using testing::AllOf, testing::HasSubstr, testing::StartsWith;
  EXPECT_THAT(blamed({.image = "no image"}), StartsWith("image: "));
  EXPECT_THAT(blamed({.image = image, .keep = PixelRectangle{0, 0, 17, 1}}),
              StartsWith("keep: found 0,0,17,1, expected"));
  EXPECT_THAT(blamed({.image = image, .mask = "no image"}), StartsWith("mask: "));
  EXPECT_THAT(blamed({.image = image, .keep_rows = 0.1}),
              HasSubstr("keep_rows: no code would be kept; a code is kept if all of its 4 x 4"));
  EXPECT_THAT(
      blamed({.image = image, .keep = PixelRectangle{0, 8, 16, 8}, .strict = true}),
      AllOf(StartsWith("strict: "), HasSubstr("so 8 of the kept codes come after generated ones")));
  EXPECT_THAT(blamed({.image = image, .mask = ""}), StartsWith("mask: "));
  EXPECT_EQ(blamed({.image = image, .keep_rows = 0.5, .strict = true}), "nothing");
}

TEST(ImagePrompt, PastesTheOriginalPixelsWhereTheyAreKept) {
  const RgbImage original = gradient_image(kSize, kSize, 1),
                 other = gradient_image(kSize, kSize, 2);
  const at::Tensor kept = rectangle(16, 16, {3, 4, 5, 6});
  const at::Tensor pasted = image_to_tensor(paste(original, kept, other));
  EXPECT_TRUE(
      torch::equal(pasted.masked_select(kept), image_to_tensor(original).masked_select(kept)));
  EXPECT_TRUE(
      torch::equal(pasted.masked_select(~kept), image_to_tensor(other).masked_select(~kept)));
}

}  // namespace
}  // namespace dalle::image_prompt_test
