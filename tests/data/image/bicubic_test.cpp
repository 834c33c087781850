#include "data/image/bicubic.h"

#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "data/image/image.h"
#include "error_of.h"
#include "tensor/named_tensors.h"

namespace dalle {
namespace {

TEST(BicubicTest, ResizesLikePillow) {
  std::map<std::string, at::Tensor> expected;  // written by tests/fixtures/write_clip.py
  for (const auto& [name, tensor] :
       read_safetensors("tests/fixtures/clip/expected.safetensors").tensors)
    expected[name] = tensor;
  for (const std::string size : {"24x24", "17x41", "50x40"}) {
    const RgbImage image = tensor_to_image(expected.at("original." + size));
    const at::Tensor found = image_to_tensor(crop_bicubic(image, 32)).to(at::kInt);
    const at::Tensor difference = (found - expected.at("resized." + size).to(at::kInt)).abs();
    EXPECT_LE(difference.max().item<int>(), 1) << size;
    EXPECT_LE(difference.to(at::kFloat).mean().item<double>(), 0.01) << size;
  }
}

TEST(BicubicTest, LeavesImagesOfTheSizeAsTheyAreAndTakesTheCenterOfOthers) {
  torch::manual_seed(1);
  const at::Tensor image = torch::randint(256, {3, 8, 12}, torch::kByte);
  EXPECT_TRUE(
      image_to_tensor(crop_bicubic(tensor_to_image(image), 8)).equal(image.narrow(2, 2, 8)));
}

TEST(BicubicTest, RefusesExtremeAspectRatios) {
  const RgbImage long_image = tensor_to_image(torch::zeros({3, 2, 202}, torch::kByte));
  EXPECT_THAT(error_of([&] { crop_bicubic(long_image, 8); }),
              testing::HasSubstr("found an image of 202 x 2 pixels, expected an aspect ratio"));
  EXPECT_EQ(crop_bicubic(tensor_to_image(torch::zeros({3, 200, 2}, torch::kByte)), 8).height, 8);
}

}  // namespace
}  // namespace dalle
