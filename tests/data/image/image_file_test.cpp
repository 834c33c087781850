#include "data/image/image_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/test_images.h"
#include "error_of.h"

namespace dalle {
namespace {

using testing::HasSubstr;

std::string sample_file(const std::string& extension, int width = 37, int height = 23) {
  cv::Mat pixels(height, width, CV_8UC3);
  cv::randu(pixels, 0, 256);
  return encoded(pixels, extension);
}

/// A BMP header of the common 40-byte form.
std::string bmp_header(int32_t width, int32_t height, int bits_a_pixel) {
  return "BM" + little_endian(0, 8) + little_endian(54, 4) + little_endian(40, 4) +
         little_endian(static_cast<uint32_t>(width), 4) +
         little_endian(static_cast<uint32_t>(height), 4) + little_endian(1, 2) +
         little_endian(bits_a_pixel, 2) + std::string(24, '\0');
}

TEST(ImageFile, ReadsKindAndSizeWithoutDecoding) {
  for (const auto& [extension, kind] :
       {std::pair{".jpg", ImageFileKind::kJpeg}, std::pair{".png", ImageFileKind::kPng},
        std::pair{".webp", ImageFileKind::kWebp}, std::pair{".bmp", ImageFileKind::kBmp}}) {
    const std::string bytes = sample_file(extension);
    const ImageFile file = inspect_image_file(bytes);
    EXPECT_EQ(file.kind, kind) << extension;
    EXPECT_EQ(file.width, 37) << extension;
    EXPECT_EQ(file.height, 23) << extension;
    EXPECT_TRUE(file.exif.empty());
  }
}

TEST(ImageFile, ReadsAllThreeHeadersOfWebp) {
  cv::Mat opaque(23, 37, CV_8UC3, cv::Scalar(1, 2, 3));
  cv::Mat transparent(23, 37, CV_8UC4, cv::Scalar(1, 2, 3, 77));
  const std::string lossy = encoded(opaque, ".webp", {cv::IMWRITE_WEBP_QUALITY, 80});
  const std::string lossless = encoded(opaque, ".webp", {cv::IMWRITE_WEBP_QUALITY, 101});
  const std::string extended = encoded(transparent, ".webp", {cv::IMWRITE_WEBP_QUALITY, 80});
  EXPECT_EQ(lossy.substr(12, 4), "VP8 ");
  EXPECT_EQ(lossless.substr(12, 4), "VP8L");
  EXPECT_EQ(extended.substr(12, 4), "VP8X");
  for (const std::string& bytes : {lossy, lossless, extended}) {
    EXPECT_EQ(inspect_image_file(bytes).width, 37);
    EXPECT_EQ(inspect_image_file(bytes).height, 23);
  }
}

TEST(ImageFile, RejectsWebpWhoseChunksDisagreeAboutItsSize) {
  const std::string large = encoded(cv::Mat(23, 37, CV_8UC3, cv::Scalar(1, 2, 3)), ".webp",
                                    {cv::IMWRITE_WEBP_QUALITY, 101});
  const std::string canvas =
      std::string("VP8X") + little_endian(10, 4) + std::string(10, '\0');  // 1 x 1 pixels
  for (const size_t place : {size_t{12}, large.size()}) {
    std::string webp = large;
    webp.insert(place, canvas);
    webp.replace(4, 4, little_endian(webp.size() - 8, 4));
    EXPECT_THAT(error_of([&] { inspect_image_file(webp); }), HasSubstr("37 x 23"));
  }
}

TEST(ImageFile, FindsExifInEveryKindThatHasIt) {
  const std::string tiff = tiff_with_orientation(6, true);
  const std::string jpeg = with_jpeg_exif(sample_file(".jpg"), tiff);
  EXPECT_EQ(inspect_image_file(jpeg).exif, tiff);
  const std::string png = with_png_chunk(sample_file(".png"), "eXIf", tiff);
  EXPECT_EQ(inspect_image_file(png).exif, tiff);
  const std::string chunk = "EXIF" + little_endian(tiff.size(), 4) + tiff;
  std::string webp = sample_file(".webp") + chunk;
  webp.replace(4, 4, little_endian(webp.size() - 8, 4));
  EXPECT_EQ(inspect_image_file(webp).exif, tiff);
}

TEST(ImageFile, RejectsFilesThatAreNotImagesAndShowsTheirFirstBytes) {
  const std::string expected = "expected a JPEG, PNG, WebP or BMP image, found ";
  EXPECT_EQ(error_of([] { inspect_image_file(""); }), "the image file is empty");
  EXPECT_EQ(error_of([] { inspect_image_file("\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c\x0d"); }),
            expected + "a file that begins with 01 02 03 04 05 06 07 08");
  EXPECT_EQ(error_of([] { inspect_image_file("short"); }), expected + "text");
  EXPECT_EQ(error_of([] { inspect_image_file("RIFF"); }), expected + "text");
  EXPECT_EQ(error_of([] { inspect_image_file("BMW is a maker of cars and bikes"); }),
            expected + "text");
}

TEST(ImageFile, NamesTheKindOfOtherFiles) {
  for (const auto& [bytes, kind] : std::vector<std::pair<std::string, std::string>>{
           {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "a Git LFS pointer (run git lfs pull to fetch the file)"},
           {"GIF89a............", "GIF"},
           {"II*" + std::string(20, '\0'), "TIFF"},
           {std::string("\0\0\0\x1c", 4) + "ftypavif" + std::string(20, '\0'), "AVIF"},
           {std::string("\0\0\0\x1c", 4) + "ftypheic" + std::string(20, '\0'), "HEIC"},
           {std::string("\0\0\0\x1c", 4) + "ftypisom" + std::string(20, '\0'), "a video"},
           {std::string("\0\0\0\x0cJXL \r\n\x87\n", 12), "JPEG XL"},
           {"\r\n <!DOCTYPE HTML><title>404</title>", "an HTML page"},
           {"<svg width='3'/>", "SVG"},
           {"<?xml version='1.0'?><Error>denied</Error>", "an XML document"},
           {"{\"error\": \"no such image\"}", "text"},
           {std::string(300, '\0'), "zeros"}})
    EXPECT_EQ(error_of([&file = bytes] { inspect_image_file(file); }),
              "expected a JPEG, PNG, WebP or BMP image, found " + kind);
}

TEST(ImageFile, SkipsStrayBytesBetweenJpegSegments) {
  const std::string tiff = tiff_with_orientation(6, true);
  const std::string intact = with_jpeg_exif(sample_file(".jpg"), tiff);
  const size_t tables = intact.find("\xff\xdb");
  for (const std::string& stray : {std::string("\0\0\0", 3), std::string("\xff\0stray", 7),
                                   std::string("\xff\xff\xff"), std::string("\xff\xd0")})
    for (const size_t place : {size_t{2}, tables}) {
      const std::string bytes = intact.substr(0, place) + stray + intact.substr(place);
      const ImageFile file = inspect_image_file(bytes);
      EXPECT_EQ(file.width, 37);
      EXPECT_EQ(file.height, 23);
      EXPECT_EQ(file.exif, tiff);
    }
}

TEST(ImageFile, DetectsTruncationAtAnyOffset) {
  for (const std::string extension : {".png", ".webp", ".bmp"}) {
    const std::string intact = sample_file(extension);
    for (size_t length = 20; length < intact.size(); length += 7)
      EXPECT_THAT(error_of([&] { inspect_image_file(intact.substr(0, length)); }),
                  testing::AnyOf(HasSubstr("truncated"), HasSubstr("found a file that")))
          << extension << " of " << length << " bytes";
  }
}

TEST(ImageFile, RejectsImplausibleSizesBeforeAllocating) {
  std::string png = sample_file(".png");
  png.replace(16, 8, big_endian(0x7fffffff7fffffff, 8));
  EXPECT_EQ(error_of([&] { inspect_image_file(png); }),
            "PNG image: claims 2147483647 x 2147483647 pixels, more than the limit of 100 million");
  std::string jpeg = sample_file(".jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  jpeg.replace(frame + 5, 4, big_endian(0xffffffff, 4));
  EXPECT_THAT(error_of([&] { inspect_image_file(jpeg); }),
              HasSubstr("JPEG image: claims 65535 x 65535 pixels"));
  EXPECT_THAT(error_of([] { inspect_image_file(bmp_header(2'000'000'000, -2'000'000'000, 24)); }),
              HasSubstr("BMP image: claims 2000000000 x 2000000000 pixels"));
  EXPECT_THAT(error_of([] { inspect_image_file(bmp_header(-5, 7, 24)); }), HasSubstr("claims"));
  EXPECT_THAT(error_of([] { inspect_image_file(bmp_header(0, 7, 24)); }),
              HasSubstr("claims 0 x 7 pixels"));
  EXPECT_THAT(error_of([] { inspect_image_file(bmp_header(5, 7, 65000)); }),
              HasSubstr("BMP image: corrupt: 65000 bits per pixel"));
}

TEST(ImageFile, RejectsAnimations) {
  std::string webp = encoded(cv::Mat(23, 37, CV_8UC4, cv::Scalar(1, 2, 3, 77)), ".webp",
                             {cv::IMWRITE_WEBP_QUALITY, 80});
  webp[20] = static_cast<char>(webp[20] | 2);
  EXPECT_EQ(error_of([&] { inspect_image_file(webp); }),
            "WebP image: animated, expected a still image");
}

TEST(ImageFile, NeverReadsOutOfBounds) {
  SeedStream random(7);
  for (const std::string extension : {".jpg", ".png", ".webp", ".bmp"}) {
    const std::string intact = sample_file(extension);
    for (int i = 0; i < 2000; ++i) {  // sanitizer builds detect accesses out of bounds
      std::string bytes = intact.substr(0, 12 + random.below(intact.size() - 12));
      for (int change = 0; change < 3; ++change)
        bytes[random.below(std::min<size_t>(bytes.size(), 64))] = static_cast<char>(random());
      const std::string message = error_of([&] {
        const ImageFile file = inspect_image_file(bytes);
        EXPECT_LE(file.width * file.height, kMaxImagePixels);
      });
      EXPECT_FALSE(message.empty());
    }
  }
}

TEST(ImageExtension, IgnoresCase) {
  for (const char* extension : {"jpg", "JPEG", "JFIF", "Png", "webp", "BMP"})
    EXPECT_TRUE(is_image_extension(extension)) << extension;
  for (const char* extension : {"", "txt", "gif", "jpgx", "seg.png"})
    EXPECT_FALSE(is_image_extension(extension)) << extension;
}

}  // namespace
}  // namespace dalle
