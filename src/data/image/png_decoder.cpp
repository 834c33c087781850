#include "data/image/png_decoder.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <bit>
#include <csetjmp>
#include <cstdio>
#include <new>
#include <vector>

#include <opencv2/core.hpp>

#include "core/error.h"

namespace dalle {
namespace {

/// Owns a libpng decoder. Its steps return false after an error: libpng reports errors by longjmp,
/// and C++ exceptions must not cross its frames.
class PngDecoder {
 public:
  explicit PngDecoder(std::string_view bytes) : remaining_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, on_error, ignore_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    png_set_read_fn(png_, &remaining_, read_bytes);
    // Not needed here, and a small file may contain gigabytes of them.
    constexpr std::array<png_byte, 25> kSkipped = {'i', 'C', 'C', 'P', 0,   'i', 'T', 'X', 't',
                                                   0,   's', 'P', 'L', 'T', 0,   't', 'E', 'X',
                                                   't', 0,   'z', 'T', 'X', 't', 0};
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kSkipped.data(), 5);
  }
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  const char* message() const { return message_.data(); }

  bool start() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_info(png_, info_);
    png_set_expand(png_);
    png_set_gray_to_rgb(png_);
    png_set_bgr(png_);
    if constexpr (std::endian::native == std::endian::little) png_set_swap(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  cv::Mat allocate_pixels() const {
    const int depth = png_get_bit_depth(png_, info_) == 16 ? CV_16U : CV_8U;
    try {
      return cv::Mat(static_cast<int>(png_get_image_height(png_, info_)),
                     static_cast<int>(png_get_image_width(png_, info_)),
                     CV_MAKETYPE(depth, png_get_channels(png_, info_)));
    } catch (const cv::Exception&) {  // thrown by OpenCV if memory runs out
      throw std::bad_alloc();
    }
  }

  /// Decodes into the rows and reads the rest of the file, verifying its checksums.
  bool read(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  using Message = std::array<char, 256>;

  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto& copy = *static_cast<Message*>(png_get_error_ptr(png));
    std::snprintf(copy.data(), copy.size(), "%s", message);
    png_longjmp(png, 1);
  }

  static void ignore_warning(png_structp, png_const_charp) {}

  static void read_bytes(png_structp png, png_bytep target, size_t count) {
    auto& remaining = *static_cast<std::string_view*>(png_get_io_ptr(png));
    if (count > remaining.size()) png_error(png, "the file ends in the middle of its data");
    std::copy_n(remaining.begin(), count, target);
    remaining.remove_prefix(count);
  }

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::string_view remaining_;
  Message message_ = {};
};

}  // namespace

cv::Mat decode_png(std::string_view bytes) {
  const auto corrupt = [](const PngDecoder& decoder) {
    return Error("PNG image: corrupt: {}", decoder.message());
  };
  PngDecoder decoder(bytes);
  if (!decoder.start()) throw corrupt(decoder);
  cv::Mat pixels = decoder.allocate_pixels();
  std::vector<png_bytep> rows;
  for (int y = 0; y < pixels.rows; ++y) rows.push_back(pixels.ptr(y));
  if (!decoder.read(rows.data())) throw corrupt(decoder);
  return pixels;
}

}  // namespace dalle
