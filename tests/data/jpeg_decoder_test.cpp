#include "dalle/data/jpeg_decoder.h"

// clang-format off
#include <cstdio>  // jpeglib.h wants FILE declared
#include <jpeglib.h>
// clang-format on

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"
#include "test_pictures.h"

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

TEST(JpegDecoder, GivesThePixelsThatOpencvGives) {
  std::vector<std::string> files = baseline_and_progressive();
  files.push_back(encoded(noise_pixels(CV_8UC1), ".jpg"));
  for (const std::string& bytes : files) {
    const Picture picture = decode_jpeg(bytes);
    const cv::Mat expected =
        cv::imdecode(std::vector<uint8_t>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR);
    ASSERT_EQ(picture.width, expected.cols);
    ASSERT_EQ(picture.height, expected.rows);
    for (int y = 0; y < expected.rows; ++y)
      for (int x = 0; x < expected.cols; ++x)
        for (int channel = 0; channel < 3; ++channel)
          ASSERT_EQ(picture.pixels[3 * (y * expected.cols + x) + channel],
                    expected.at<cv::Vec3b>(y, x)[2 - channel]);
  }
}

/// A JPEG of four inks, every pixel alike.
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

TEST(JpegDecoder, MixesInksStoredPlainlyOrInverted) {
  // Red 255 * (1 - cyan) * (1 - black), and so on.
  const Picture plain = decode_jpeg(cmyk_jpeg({0, 51, 204, 102}, false));
  const Picture inverted = decode_jpeg(cmyk_jpeg({255, 204, 51, 153}, true));
  ASSERT_EQ(plain.pixels.size(), size_t{8 * 8 * 3});
  for (const Picture& picture : {plain, inverted}) {
    EXPECT_NEAR(picture.pixels[0], 153, 2);
    EXPECT_NEAR(picture.pixels[1], 122, 2);
    EXPECT_NEAR(picture.pixels[2], 31, 2);
  }
}

TEST(JpegDecoder, RefusesAFileThatIsCutAnywhere) {
  for (const std::string& whole : baseline_and_progressive()) {
    EXPECT_NO_THROW(decode_jpeg(whole));
    for (size_t length = 3; length < whole.size(); length += whole.size() / 97)
      EXPECT_THAT(error_of([&] { decode_jpeg(whole.substr(0, length)); }),
                  StartsWith("JPEG image: corrupt or truncated: "))
          << length << " of " << whole.size();
    for (const size_t missing : {1, 2, 3})
      EXPECT_THAT(error_of([&] { decode_jpeg(whole.substr(0, whole.size() - missing)); }),
                  StartsWith("JPEG image: corrupt or truncated: "))
          << missing << " bytes missing";
  }
}

TEST(JpegDecoder, RefusesACutFileWhoseEndMarkerWasPutBack) {
  const std::string whole = encoded(noise_pixels(), ".jpg");
  for (size_t length = whole.size() / 4; length < whole.size() - 40; length += whole.size() / 31)
    EXPECT_THAT(error_of([&] { decode_jpeg(whole.substr(0, length) + "\xff\xd9"); }),
                HasSubstr("premature end of data segment"))
        << length;
}

TEST(JpegDecoder, RefusesALostRestartInterval) {
  const std::string whole = encoded(noise_pixels(), ".jpg", {cv::IMWRITE_JPEG_RST_INTERVAL, 1});
  const size_t first = whole.find("\xff\xd2");
  const size_t second = whole.find("\xff\xd3", first);
  ASSERT_NE(second, std::string::npos);
  EXPECT_THAT(error_of([&] { decode_jpeg(whole.substr(0, first) + whole.substr(second)); }),
              StartsWith("JPEG image: corrupt or truncated: Corrupt JPEG data"));
}

TEST(JpegDecoder, PassesOverBytesBehindTheEndMarker) {
  const std::string whole = encoded(noise_pixels(), ".jpg");
  EXPECT_EQ(decode_jpeg(whole + "PK\x03\x04 an archive behind a picture"), decode_jpeg(whole));
}

TEST(JpegDecoder, PassesOverStrayBytesBetweenSegments) {
  const std::string whole = encoded(noise_pixels(), ".jpg");
  const size_t tables = whole.find("\xff\xdb");
  EXPECT_EQ(
      decode_jpeg(whole.substr(0, tables) + std::string("\0\0stray", 7) + whole.substr(tables)),
      decode_jpeg(whole));
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

TEST(JpegDecoder, RefusesMoreScansThanAnEncoderWrites) {
  EXPECT_EQ(decode_jpeg(jpeg_of_many_scans(1)).width, 8);  // 64 of them
  EXPECT_EQ(error_of([] { decode_jpeg(jpeg_of_many_scans(2)); }),
            "JPEG image: at least 101 scans of 8 x 8 pixels, more than are allowed");
}

TEST(JpegDecoder, SurvivesFlippedBytes) {
  const std::string whole = encoded(noise_pixels(), ".jpg");
  SeedStream random(3);
  constexpr size_t kHeaders = 700;  // whose numbers are inspect_picture_file()'s to doubt
  for (int i = 0; i < 300; ++i) {
    std::string bytes = whole;
    bytes[kHeaders + random.below(bytes.size() - kHeaders)] ^=
        static_cast<char>(1 + random.below(255));
    const std::string message = error_of([&] { EXPECT_EQ(decode_jpeg(bytes).width, 96); });
    EXPECT_THAT(message, testing::AnyOf("no error", StartsWith("JPEG image: corrupt")));
  }
}

}  // namespace
}  // namespace dalle
