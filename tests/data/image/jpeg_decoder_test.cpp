#include "data/image/jpeg_decoder.h"

// clang-format off
#include <cstdio>  // jpeglib.h requires FILE
#include <jpeglib.h>
// clang-format on

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/test_images.h"
#include "error_of.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

cv::Mat noise_pixels(int type = CV_8UC3) {
  cv::Mat pixels(64, 96, type);
  cv::theRNG().state = 5;
  cv::randu(pixels, 0, 256);
  return pixels;
}

std::vector<std::string> baseline_and_progressive() {
  return {encoded(noise_pixels(), ".jpg"),
          encoded(noise_pixels(), ".jpg", {cv::IMWRITE_JPEG_PROGRESSIVE, 1}),
          encoded(noise_pixels(), ".jpg", {cv::IMWRITE_JPEG_RST_INTERVAL, 2})};
}

TEST(JpegDecoder, MatchesOpencv) {
  std::vector<std::string> files = baseline_and_progressive();
  files.push_back(encoded(noise_pixels(CV_8UC1), ".jpg"));
  for (const std::string& bytes : files) {
    const RgbImage image = decode_jpeg(bytes);
    const cv::Mat expected =
        cv::imdecode(std::vector<uint8_t>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR);
    ASSERT_EQ(image.width, expected.cols);
    ASSERT_EQ(image.height, expected.rows);
    for (int y = 0; y < expected.rows; ++y)
      for (int x = 0; x < expected.cols; ++x)
        for (int channel = 0; channel < 3; ++channel)
          ASSERT_EQ(image.pixels[3 * (y * expected.cols + x) + channel],
                    expected.at<cv::Vec3b>(y, x)[2 - channel]);
  }
}

/// A CMYK JPEG in which all pixels are equal.
std::string cmyk_jpeg(const std::vector<uint8_t>& inks, bool has_adobe_marker) {
  jpeg_compress_struct state = {};
  jpeg_error_mgr errors = {};
  state.err = jpeg_std_error(&errors);
  jpeg_create_compress(&state);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&state, &bytes, &size);
  state.image_width = state.image_height = 8;
  state.input_components = 4;
  state.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&state);
  jpeg_set_quality(&state, 100, TRUE);
  state.write_Adobe_marker = has_adobe_marker;
  jpeg_start_compress(&state, TRUE);
  std::vector<uint8_t> row;
  for (int x = 0; x < 8; ++x) row.insert(row.end(), inks.begin(), inks.end());
  JSAMPROW pointer = row.data();
  for (int y = 0; y < 8; ++y) jpeg_write_scanlines(&state, &pointer, 1);
  jpeg_finish_compress(&state);
  const std::string file(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&state);
  std::free(bytes);
  return file;
}

TEST(JpegDecoder, ConvertsPlainAndInvertedInks) {
  // Red 255 * (1 - cyan) * (1 - black), and so on.
  const RgbImage plain = decode_jpeg(cmyk_jpeg({0, 51, 204, 102}, false));
  const RgbImage inverted = decode_jpeg(cmyk_jpeg({255, 204, 51, 153}, true));
  ASSERT_EQ(plain.pixels.size(), size_t{8 * 8 * 3});
  for (const RgbImage& image : {plain, inverted}) {
    EXPECT_NEAR(image.pixels[0], 153, 2);
    EXPECT_NEAR(image.pixels[1], 122, 2);
    EXPECT_NEAR(image.pixels[2], 31, 2);
  }
}

TEST(JpegDecoder, RejectsFilesTruncatedAnywhere) {
  for (const std::string& intact : baseline_and_progressive()) {
    EXPECT_NO_THROW(decode_jpeg(intact));
    for (size_t length = 3; length < intact.size(); length += intact.size() / 97)
      EXPECT_THAT(error_of([&] { decode_jpeg(intact.substr(0, length)); }),
                  StartsWith("JPEG image: corrupt or truncated: "))
          << length << " of " << intact.size();
    for (const size_t missing : {1, 2, 3})
      EXPECT_THAT(error_of([&] { decode_jpeg(intact.substr(0, intact.size() - missing)); }),
                  StartsWith("JPEG image: corrupt or truncated: "))
          << missing << " bytes missing";
  }
}

TEST(JpegDecoder, RejectsATruncatedFileWithAnEndMarker) {
  const std::string intact = encoded(noise_pixels(), ".jpg");
  for (size_t length = intact.size() / 4; length < intact.size() - 40; length += intact.size() / 31)
    EXPECT_THAT(error_of([&] { decode_jpeg(intact.substr(0, length) + "\xff\xd9"); }),
                HasSubstr("premature end of data segment"))
        << length;
}

TEST(JpegDecoder, RejectsAMissingRestartInterval) {
  const std::string intact = encoded(noise_pixels(), ".jpg", {cv::IMWRITE_JPEG_RST_INTERVAL, 1});
  const size_t first = intact.find("\xff\xd2");
  const size_t second = intact.find("\xff\xd3", first);
  ASSERT_NE(second, std::string::npos);
  EXPECT_THAT(error_of([&] { decode_jpeg(intact.substr(0, first) + intact.substr(second)); }),
              StartsWith("JPEG image: corrupt or truncated: Corrupt JPEG data"));
}

TEST(JpegDecoder, IgnoresBytesAfterTheEndMarker) {
  const std::string intact = encoded(noise_pixels(), ".jpg");
  EXPECT_EQ(decode_jpeg(intact + "PK\x03\x04 an archive after an image"), decode_jpeg(intact));
}

TEST(JpegDecoder, IgnoresStrayBytesBetweenSegments) {
  const std::string intact = encoded(noise_pixels(), ".jpg");
  const size_t tables = intact.find("\xff\xdb");
  EXPECT_EQ(
      decode_jpeg(intact.substr(0, tables) + std::string("\0\0stray", 7) + intact.substr(tables)),
      decode_jpeg(intact));
}

/// A gray JPEG with one scan for the means of blocks and `levels` scans for each other coefficient.
std::string jpeg_of_many_scans(int levels) {
  std::vector<jpeg_scan_info> scans = {{1, {0}, 0, 0, 0, 0}};
  for (int coefficient = 1; coefficient < 64; ++coefficient)
    for (int level = 0; level < levels; ++level)
      scans.push_back(
          {1, {0}, coefficient, coefficient, level == 0 ? 0 : levels - level, levels - level - 1});
  jpeg_compress_struct state = {};
  jpeg_error_mgr errors = {};
  state.err = jpeg_std_error(&errors);
  jpeg_create_compress(&state);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&state, &bytes, &size);
  state.image_width = state.image_height = 8;
  state.input_components = 1;
  state.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&state);
  state.scan_info = scans.data();
  state.num_scans = static_cast<int>(scans.size());
  jpeg_start_compress(&state, TRUE);
  for (uint8_t y = 0; y < 8; ++y) {
    std::vector<uint8_t> row = {y, 20, 40, 60, 80, 100, 120, static_cast<uint8_t>(30 * y)};
    JSAMPROW pointer = row.data();
    jpeg_write_scanlines(&state, &pointer, 1);
  }
  jpeg_finish_compress(&state);
  const std::string file(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&state);
  std::free(bytes);
  return file;
}

TEST(JpegDecoder, RejectsMoreScansThanEncodersWrite) {
  EXPECT_EQ(decode_jpeg(jpeg_of_many_scans(1)).width, 8);  // 64 of them
  EXPECT_EQ(error_of([] { decode_jpeg(jpeg_of_many_scans(2)); }),
            "JPEG image: at least 101 scans of 8 x 8 pixels, more than the limit");
}

TEST(JpegDecoder, SurvivesFlippedBytes) {
  const std::string intact = encoded(noise_pixels(), ".jpg");
  SeedStream random(3);
  constexpr size_t kHeaders = 700;  // validated by inspect_image_file() instead
  for (int i = 0; i < 300; ++i) {
    std::string bytes = intact;
    bytes[kHeaders + random.below(bytes.size() - kHeaders)] ^=
        static_cast<char>(1 + random.below(255));
    const std::string message = error_of([&] { EXPECT_EQ(decode_jpeg(bytes).width, 96); });
    EXPECT_THAT(message, testing::AnyOf("no error", StartsWith("JPEG image: corrupt")));
  }
}

}  // namespace
}  // namespace dalle
