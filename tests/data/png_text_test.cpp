#include "dalle/data/png_text.h"

#include <gtest/gtest.h>

#include "dalle/core/error.h"
#include "dalle/data/image.h"

namespace dalle {
namespace {

Picture small_picture() {
  return {.width = 2, .height = 1, .pixels = {255, 0, 0, 0, 0, 255}};
}

TEST(PngText, ComesBackAndLeavesThePictureAsItWas) {
  const std::string png = encode_picture(small_picture(), PictureFormat::kPng);
  const std::vector<PngText> texts = {
      {"caption", "a röd circle, 赤い円"}, {"seed", "1"}, {"empty", ""}};
  const std::string with_text = add_png_text(png, texts);
  EXPECT_EQ(read_png_text(with_text), texts);
  EXPECT_EQ(decode_picture(with_text), small_picture());
}

TEST(PngText, OfAPlainPngIsNone) {
  EXPECT_TRUE(read_png_text(encode_picture(small_picture(), PictureFormat::kPng)).empty());
}

TEST(PngText, HasTheChecksumThatReadersVerify) {
  // "IEND" without content has the CRC that ends every PNG file.
  const std::string png =
      add_png_text(encode_picture(small_picture(), PictureFormat::kPng), {{"k", "v"}});
  const std::string chunk("\0\0\0\x07iTXtk\0\0\0\0\0v", 15);
  const size_t at = png.find(chunk);
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(png.substr(at + chunk.size(), 4), std::string("\x21\xa6\x8f\x71", 4));
}

TEST(PngText, RefusesWhatIsNoPngAndBadKeywords) {
  const std::string png = encode_picture(small_picture(), PictureFormat::kPng);
  EXPECT_THROW(add_png_text("GIF89a", {}), Error);
  EXPECT_THROW(add_png_text(png, {{"", "x"}}), Error);
  EXPECT_THROW(add_png_text(png, {{"käy", "x"}}), Error);
  EXPECT_THROW(add_png_text(png, {{std::string(80, 'k'), "x"}}), Error);
  for (size_t size = 8; size + 1 < png.size(); size += 7)
    EXPECT_THROW(read_png_text(png.substr(0, size)), Error) << size;
}

}  // namespace
}  // namespace dalle
