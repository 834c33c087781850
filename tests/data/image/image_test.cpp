#include "data/image/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <opencv2/imgproc.hpp>
#include <torch/types.h>

#include "data/test_images.h"
#include "error_of.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<uint8_t> first_pixel(const RgbImage& image) {
  return {image.pixels.begin(), image.pixels.begin() + 3};
}

std::vector<uint8_t> first_pixel_of(const std::string& bytes, uint8_t background = 255) {
  return first_pixel(decode_image(bytes, background));
}

TEST(DecodeImage, RestoresLosslessFilesExactly) {
  const RgbImage image = gradient_image(37, 23);
  cv::Mat bgr;
  cv::cvtColor(cv::Mat(23, 37, CV_8UC3, const_cast<uint8_t*>(image.pixels.data())), bgr,
               cv::COLOR_RGB2BGR);
  EXPECT_EQ(decode_image(encoded(bgr, ".png")), image);
  EXPECT_EQ(decode_image(encoded(bgr, ".bmp")), image);
  EXPECT_EQ(decode_image(encoded(bgr, ".webp", {cv::IMWRITE_WEBP_QUALITY, 101})), image);
}

TEST(DecodeImage, ConvertsGrayToThreeEqualChannels) {
  EXPECT_THAT(first_pixel_of(encoded(flat(CV_8UC1, 77), ".png")), ElementsAre(77, 77, 77));
  EXPECT_THAT(first_pixel_of(encoded(flat(CV_8UC1, 77), ".jpg")), ElementsAre(77, 77, 77));
  EXPECT_THAT(first_pixel_of(encoded(flat(CV_16UC1, 77 * 257), ".png")), ElementsAre(77, 77, 77));
}

TEST(DecodeImage, RoundsSixteenBitsToEight) {
  for (const int level : {0, 1, 128, 129, 32767, 32768, 65406, 65407, 65535}) {
    const auto expected = static_cast<uint8_t>(std::lround(level * 255.0 / 65535.0));
    EXPECT_THAT(first_pixel_of(encoded(flat(CV_16UC3, cv::Scalar::all(level)), ".png")),
                ElementsAre(expected, expected, expected));
  }
}

TEST(DecodeImage, BlendsTransparentImagesWithTheBackground) {
  for (const int alpha : {0, 1, 100, 254, 255}) {
    const std::string bytes = encoded(flat(CV_8UC4, {30, 20, 10, double(alpha)}), ".png");
    for (const int background : {0, 128, 255}) {
      const auto mixed = [&](int level) {
        return static_cast<uint8_t>(
            std::lround((level * alpha + background * (255 - alpha)) / 255.0));
      };
      EXPECT_THAT(first_pixel_of(bytes, static_cast<uint8_t>(background)),
                  ElementsAre(mixed(10), mixed(20), mixed(30)))
          << alpha << " over " << background;
    }
  }
}

TEST(DecodeImage, DoesNotRevealTransparentPixels) {
  const std::string png = encoded(flat(CV_8UC4, {0, 0, 255, 0}), ".png");
  EXPECT_THAT(first_pixel_of(png), ElementsAre(255, 255, 255));
  const std::string deep = encoded(flat(CV_16UC4, {0, 0, 65535, 0}), ".png");
  EXPECT_THAT(first_pixel_of(deep), ElementsAre(255, 255, 255));
  const std::string webp =
      encoded(flat(CV_8UC4, {0, 0, 255, 0}), ".webp", {cv::IMWRITE_WEBP_QUALITY, 101});
  EXPECT_THAT(first_pixel_of(webp), ElementsAre(255, 255, 255));
}

TEST(DecodeImage, TreatsTheTransparentLevelOfAGrayPngAsTransparent) {
  const std::string gray = encoded(flat(CV_8UC1, 77), ".png");
  EXPECT_THAT(first_pixel_of(with_png_chunk(gray, "tRNS", big_endian(77, 2))),
              ElementsAre(255, 255, 255));
  EXPECT_THAT(first_pixel_of(with_png_chunk(gray, "tRNS", big_endian(78, 2))),
              ElementsAre(77, 77, 77));
  const std::string deep = encoded(flat(CV_16UC1, 1000), ".png");
  EXPECT_THAT(first_pixel_of(with_png_chunk(deep, "tRNS", big_endian(1000, 2))),
              ElementsAre(255, 255, 255));
  const std::string bilevel =
      encoded(flat(CV_8UC1, 255), ".png", {cv::IMWRITE_PNG_BILEVEL, 1});  // 1 bit per pixel
  EXPECT_THAT(first_pixel_of(with_png_chunk(bilevel, "tRNS", big_endian(1, 2)), 9),
              ElementsAre(9, 9, 9));
}

TEST(DecodeImage, ReadsPalettes) {
  // Three pixels of 8 bits, a palette of two colors, the first of which is half transparent. The
  // pixels are stored uncompressed: a zlib header, one block, an Adler-32 sum.
  const std::string row("\0\0\1\0", 4);
  uint32_t a = 1, b = 0;
  for (const char byte : row) b += a += static_cast<uint8_t>(byte);
  const std::string data = "\x78\x01\x01" + little_endian(4, 2) + little_endian(0xfffb, 2) + row +
                           big_endian(b << 16 | a, 4);
  const auto png = [&](const std::string& transparency) {
    return "\x89PNG\r\n\x1a\n" +
           png_chunk("IHDR",
                     big_endian(3, 4) + big_endian(1, 4) + std::string("\x08\x03\0\0\0", 5)) +
           png_chunk("PLTE", "\x0a\x14\x1e\x28\x32\x3c") + transparency + png_chunk("IDAT", data) +
           png_chunk("IEND", "");
  };
  EXPECT_THAT(decode_image(png("")).pixels, ElementsAre(10, 20, 30, 40, 50, 60, 10, 20, 30));
  EXPECT_THAT(decode_image(png(png_chunk("tRNS", "\x80")), 0).pixels,
              ElementsAre(5, 10, 15, 40, 50, 60, 5, 10, 15));
}

TEST(DecodeImage, TreatsABmpWithZeroAlphaAsOpaque) {
  const std::string bytes = encoded(flat(CV_8UC4, {30, 20, 10, 0}), ".bmp");
  EXPECT_THAT(first_pixel_of(bytes), ElementsAre(10, 20, 30));
}

TEST(DecodeImage, AppliesTheOrientationOfEveryFormat) {
  cv::Mat gray(16, 32, CV_8UC3, cv::Scalar::all(0));
  gray.colRange(16, 32).setTo(255);  // dark left, bright right
  const std::string tiff = tiff_with_orientation(6, false);
  for (const std::string& bytes : {with_jpeg_exif(encoded(gray, ".jpg"), tiff),
                                   with_png_chunk(encoded(gray, ".png"), "eXIf", tiff)}) {
    const RgbImage image = decode_image(bytes);  // rotated clockwise by 90 degrees: dark top
    EXPECT_EQ(image.width, 16);
    EXPECT_EQ(image.height, 32);
    EXPECT_LT(image.pixels.front(), 5);
    EXPECT_GT(image.pixels.back(), 250);
  }
}

TEST(DecodeImage, AppliesEveryOrientationLikeOpencv) {
  const RgbImage image = gradient_image(48, 32);
  const std::string jpeg = encode_image(image, ImageFormat::kJpeg);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const std::string bytes = with_jpeg_exif(jpeg, tiff_with_orientation(orientation, true));
    cv::Mat expected =
        cv::imdecode(std::vector<uint8_t>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR);
    cv::cvtColor(expected, expected, cv::COLOR_BGR2RGB);
    const RgbImage decoded = decode_image(bytes);
    ASSERT_EQ(decoded.width, expected.cols) << orientation;
    EXPECT_TRUE(std::equal(decoded.pixels.begin(), decoded.pixels.end(), expected.datastart))
        << orientation;
  }
}

TEST(DecodeImage, RejectsTruncatedFilesOfEveryFormat) {
  const RgbImage image = gradient_image(61, 47);
  cv::Mat pixels(47, 61, CV_8UC3);
  cv::randu(pixels, 0, 256);
  for (const std::string extension : {".jpg", ".png", ".webp", ".bmp"}) {
    const std::string intact = encoded(pixels, extension);
    for (int part = 1; part < 20; ++part)
      EXPECT_NE(error_of([&] { decode_image(intact.substr(0, intact.size() * part / 20)); }),
                "no error")
          << extension << " " << part << "/20";
    EXPECT_NE(error_of([&] { decode_image(intact.substr(0, intact.size() - 1)); }), "no error")
        << extension;
  }
}

TEST(DecodeImage, RejectsACorruptPng) {
  cv::Mat pixels(47, 61, CV_8UC3);
  cv::randu(pixels, 0, 256);
  std::string bytes = encoded(pixels, ".png");
  bytes[bytes.size() / 2] ^= 0x10;
  EXPECT_THAT(error_of([&] { decode_image(bytes); }), HasSubstr("PNG image: corrupt: "));
}

TEST(DecodeImage, PrintsNoWarningAboutAFaultyProfile) {
  const std::string png = encoded(flat(CV_8UC3, {30, 20, 10}), ".png");
  const std::string faulty = with_png_chunk(png, "iCCP", "name" + std::string(40, '\0'));
  testing::internal::CaptureStderr();
  EXPECT_THAT(first_pixel_of(faulty), ElementsAre(10, 20, 30));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(DecodeImage, RejectsFilesThatAreNotImages) {
  EXPECT_EQ(error_of([] { decode_image(""); }), "the image file is empty");
  EXPECT_THAT(error_of([] { decode_image("a text file renamed to cat.jpg"); }),
              HasSubstr("expected a JPEG, PNG, WebP or BMP image, found text"));
}

TEST(EncodeImage, PngIsLosslessAndTheOthersAreClose) {
  RgbImage smooth = gradient_image(64, 48);
  for (size_t i = 0; i < smooth.pixels.size(); ++i)
    smooth.pixels[i] = static_cast<uint8_t>(i / (3 * 64) * 4 + i % 3 * 20);
  EXPECT_EQ(decode_image(encode_image(smooth, ImageFormat::kPng)), smooth);
  for (const ImageFormat format : {ImageFormat::kJpeg, ImageFormat::kWebp}) {
    const RgbImage back = decode_image(encode_image(smooth, format));
    ASSERT_EQ(back.pixels.size(), smooth.pixels.size());
    for (size_t i = 0; i < back.pixels.size(); ++i)
      ASSERT_NEAR(back.pixels[i], smooth.pixels[i], 12) << i;
  }
}

TEST(EncodeImage, HigherQualityTakesMoreBytesAndIsCloser) {
  const RgbImage smooth = gradient_image(64, 48);
  const auto error = [&](const std::string& file) {
    return (image_to_tensor(decode_image(file)).to(at::kInt) - image_to_tensor(smooth).to(at::kInt))
        .abs()
        .sum()
        .item<int64_t>();
  };
  for (const ImageFormat format : {ImageFormat::kJpeg, ImageFormat::kWebp}) {
    const std::string low = encode_image(smooth, format, 0);
    const std::string high = encode_image(smooth, format, 100);
    EXPECT_LT(low.size(), high.size()) << to_string(format);
    EXPECT_GT(error(low), error(high)) << to_string(format);
  }
}

TEST(EncodeImage, WritesTheRequestedFormat) {
  const RgbImage image = gradient_image(8, 8);
  EXPECT_EQ(encode_image(image, ImageFormat::kPng).substr(1, 3), "PNG");
  EXPECT_EQ(encode_image(image, ImageFormat::kJpeg).substr(0, 2), "\xff\xd8");
  EXPECT_EQ(encode_image(image, ImageFormat::kWebp).substr(8, 4), "WEBP");
}

TEST(EncodeImage, RejectsImagesTooLargeForTheFormat) {
  const RgbImage image = gradient_image(70'000, 1);
  EXPECT_EQ(error_of([&] { encode_image(image, ImageFormat::kWebp); }),
            "cannot encode an image of 70000 x 1 pixels as .webp");
  EXPECT_EQ(error_of([&] { encode_image(image, ImageFormat::kJpeg); }),
            "cannot encode an image of 70000 x 1 pixels as .jpg");
}

TEST(EncodeImage, SupportsSidesUpToTheLimitOfTheFormat) {
  for (const auto format : {ImageFormat::kPng, ImageFormat::kJpeg, ImageFormat::kWebp}) {
    const int64_t longest = longest_side(format);
    EXPECT_NO_THROW(encode_image(gradient_image(longest, 1), format)) << to_string(format);
    EXPECT_THROW(encode_image(gradient_image(1, longest + 1), format), Error) << to_string(format);
  }
}

TEST(ImageFormats, IgnoreTheCaseOfNames) {
  EXPECT_EQ(find_image_format("PNG"), ImageFormat::kPng);
  EXPECT_EQ(find_image_format("jpeg"), ImageFormat::kJpeg);
  EXPECT_EQ(find_image_format("Jpg"), ImageFormat::kJpeg);
  EXPECT_EQ(find_image_format("webp"), ImageFormat::kWebp);
  for (const char* name : {"", ".png", "gif", "pngs"}) EXPECT_FALSE(find_image_format(name));
}

TEST(ImageTensor, IsChannelsFirstAndRoundTrips) {
  const RgbImage image = gradient_image(5, 3);
  const at::Tensor tensor = image_to_tensor(image);
  ASSERT_EQ(tensor.sizes(), (std::vector<int64_t>{3, 3, 5}));
  ASSERT_EQ(tensor.scalar_type(), torch::kUInt8);
  EXPECT_EQ(tensor[2][1][4].item<int>(), image.pixels[3 * (1 * 5 + 4) + 2]);
  EXPECT_EQ(tensor_to_image(tensor), image);
  EXPECT_EQ(tensor_to_image(tensor.to(torch::kFloat) / 255), image);
  EXPECT_EQ(tensor_to_image(tensor.to(torch::kDouble) / 255), image);
}

TEST(ImageTensor, OwnsItsPixels) {
  at::Tensor tensor;
  RgbImage image = gradient_image(5, 3);
  const uint8_t before = image.pixels[0];
  tensor = image_to_tensor(image);
  image.pixels[0] = static_cast<uint8_t>(before + 1);
  EXPECT_EQ(tensor[0][0][0].item<int>(), before);
}

TEST(ImageTensor, IsRoundedAndClampedAndMustBeFinite) {
  at::Tensor tensor = torch::zeros({3, 1, 1});
  tensor[0] = 0.5;  // 127.5 rounds to even
  tensor[1] = 1.01;
  tensor[2] = -0.01;
  EXPECT_THAT(tensor_to_image(tensor).pixels, ElementsAre(128, 255, 0));
  tensor[1] = std::nan("");
  EXPECT_THAT(error_of([&] { tensor_to_image(tensor); }), HasSubstr("not finite"));
}

}  // namespace
}  // namespace dalle
