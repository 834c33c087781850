#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <opencv2/imgcodecs.hpp>

#include "core/seeds.h"
#include "data/image/rgb_image.h"

namespace dalle {

/// An image with smooth colors and some noise, without repetitions or symmetries.
inline RgbImage gradient_image(int64_t width, int64_t height, uint64_t seed = 1) {
  RgbImage image;
  image.width = width;
  image.height = height;
  SeedStream random(seed);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(240 * x / width + random.below(8)));
      image.pixels.push_back(static_cast<uint8_t>(240 * y / height + random.below(8)));
      image.pixels.push_back(static_cast<uint8_t>(random.below(64)));
    }
  return image;
}

/// Encodes an image file with OpenCV, independently of encode_image().
inline std::string encoded(const cv::Mat& pixels, const std::string& extension,
                           const std::vector<int>& options = {}) {
  std::vector<uint8_t> bytes;
  cv::imencode(extension, pixels, bytes, options);
  return {bytes.begin(), bytes.end()};
}

/// A 2x2 image of `type` with every pixel set to `value` (blue, green, red, alpha).
inline cv::Mat flat(int type, const cv::Scalar& value) {
  return cv::Mat(2, 2, type, value);
}

/// The low `width` bytes of `value` in big-endian order.
inline std::string big_endian(uint64_t value, int width) {
  std::string bytes;
  for (int i = width - 1; i >= 0; --i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

inline std::string little_endian(uint64_t value, int width) {
  const std::string bytes = big_endian(value, width);
  return {bytes.rbegin(), bytes.rend()};
}

/// A PNG chunk, with a checksum that is computed bit by bit.
inline std::string png_chunk(const std::string& type, const std::string& content) {
  uint32_t remainder = 0xffffffff;
  for (const char byte : type + content) {
    remainder ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit)
      remainder = remainder >> 1 ^ (remainder & 1 ? 0xedb88320U : 0U);
  }
  return big_endian(content.size(), 4) + type + content + big_endian(~remainder, 4);
}

/// Inserts a chunk after the header of `png`.
inline std::string with_png_chunk(const std::string& png, const std::string& type,
                                  const std::string& content) {
  constexpr size_t kHeaderEnd = 8 + 25;
  return png.substr(0, kHeaderEnd) + png_chunk(type, content) + png.substr(kHeaderEnd);
}

/// A TIFF block that contains only an orientation.
inline std::string tiff_with_orientation(int orientation, bool is_big_endian) {
  const auto number = [&](uint64_t value, int width) {
    return is_big_endian ? big_endian(value, width) : little_endian(value, width);
  };
  return (is_big_endian ? "MM" : "II") + number(42, 2) + number(8, 4) + number(1, 2) +
         number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + number(0, 2) +
         number(0, 4);
}

/// Inserts an EXIF segment after the start marker of `jpeg`.
inline std::string with_jpeg_exif(const std::string& jpeg, const std::string& tiff) {
  const std::string content = std::string("Exif\0\0", 6) + tiff;
  return jpeg.substr(0, 2) + "\xff\xe1" + big_endian(content.size() + 2, 2) + content +
         jpeg.substr(2);
}

}  // namespace dalle
