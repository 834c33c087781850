#include "dalle/image.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

at::Tensor gradient_image(int64_t height, int64_t width) {
  return torch::arange(3 * height * width).remainder(256).to(at::kByte).view({3, height, width});
}

TEST(ImageFile, KeepsThePixelsOfALosslessFormat) {
  const TemporaryDirectory folder;
  const at::Tensor image = gradient_image(5, 7);
  save_image(image, folder / "image.png");
  EXPECT_TRUE(load_image(folder / "image.png").equal(image));
  save_image(image.to(at::kFloat).div(255), folder / "image.PNG");
  EXPECT_TRUE(load_image(folder / "image.PNG").equal(image));
}

TEST(ImageFile, HasTheFormatOfItsName) {
  const TemporaryDirectory folder;
  for (const char* name : {"image.jpg", "image.jpeg", "image.webp"}) {
    save_image(torch::full({3, 16, 24}, 200, at::kByte), folder / name);
    const at::Tensor image = load_image(folder / name);
    EXPECT_EQ(image.sizes(), at::IntArrayRef({3, 16, 24}));
    EXPECT_LE(image.to(at::kInt).sub(200).abs().max().item<int>(), 2) << name;
  }
  EXPECT_TRUE(read_file(folder / "image.webp").starts_with("RIFF"));
}

TEST(ImageFile, IsCroppedToItsCentralSquare) {
  const TemporaryDirectory folder;
  at::Tensor image = torch::zeros({3, 4, 8}, at::kByte);
  image.narrow(2, 2, 4).fill_(255);
  save_image(image, folder / "image.png");
  EXPECT_TRUE(load_image(folder / "image.png", 2).equal(torch::full({3, 2, 2}, 255, at::kByte)));
  for (const int64_t size : {int64_t{5}, int64_t{0}})
    EXPECT_TRUE(error_of([&] {
                  load_image(folder / "image.png", size);
                }).starts_with((folder / "image.png").string() + ": "));
}

TEST(ImageFile, NamesTheFileInErrors) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "text.png", "no image");
  const at::Tensor image = gradient_image(2, 2);
  const auto fails_for = [&](const std::string& name, const auto& action) {
    const std::string message = error_of([&] { action(folder / name); });
    EXPECT_TRUE(message.starts_with((folder / name).string() + ": ")) << message;
  };
  fails_for("text.png", [](const auto& path) { load_image(path); });
  fails_for("missing.png", [](const auto& path) { load_image(path); });
  fails_for("image.gif", [&](const auto& path) { save_image(image, path); });
  fails_for("image", [&](const auto& path) { save_image(image, path); });
  fails_for("image.png", [&](const auto& path) { save_image(image[0], path); });
  fails_for("image.png", [&](const auto& path) { save_image(image.to(at::kLong), path); });
  fails_for("image.png", [&](const auto& path) { save_image(at::Tensor(), path); });
  fails_for("image.png", [](const auto& path) { save_image(torch::full({3, 2, 2}, NAN), path); });
}

}  // namespace
}  // namespace dalle
