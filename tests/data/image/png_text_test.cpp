#include "data/image/png_text.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/image/image.h"
#include "data/test_images.h"

namespace dalle {
namespace {

RgbImage small_image() {
  return {.width = 2, .height = 1, .pixels = {255, 0, 0, 0, 0, 255}};
}

TEST(PngText, InsertsChunksAfterTheHeaderAndKeepsTheImage) {
  const std::string png = encode_image(small_image(), ImageFormat::kPng);
  const std::string zeros(5, '\0');
  const std::string expected = with_png_chunk(with_png_chunk(png, "iTXt", "empty" + zeros), "iTXt",
                                              "caption" + zeros + "a röd circle, 赤い円");
  const std::string with_text =
      add_png_text(png, {{"caption", "a röd circle, 赤い円"}, {"empty", ""}});
  EXPECT_EQ(with_text, expected);
  EXPECT_EQ(decode_image(with_text), small_image());
}

TEST(PngText, RejectsOtherFilesAndInvalidKeywords) {
  const std::string png = encode_image(small_image(), ImageFormat::kPng);
  EXPECT_THROW(add_png_text("GIF89a", {}), Error);
  EXPECT_THROW(add_png_text(png, {{"", "x"}}), Error);
  EXPECT_THROW(add_png_text(png, {{"käy", "x"}}), Error);
  EXPECT_THROW(add_png_text(png, {{std::string(80, 'k'), "x"}}), Error);
  std::string other_header = png;
  other_header[11] = 14;  // after which the text would be inserted into a chunk
  EXPECT_THROW(add_png_text(other_header, {{"k", "v"}}), Error);
}

}  // namespace
}  // namespace dalle
