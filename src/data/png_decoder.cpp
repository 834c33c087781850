#include "png_decoder.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <bit>
#include <csetjmp>
#include <cstdio>
#include <new>
#include <vector>

#include "dalle/core/error.h"

namespace dalle {
namespace {

/// A decoder that frees its memory on every way out. Its steps return false after an error, for
/// libpng jumps over frames on its way out and no C++ exception may cross its own.
class PngDecoder {
 public:
  explicit PngDecoder(std::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, keep_message, drop_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    png_set_read_fn(png_, &rest_, read_on);
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

  cv::Mat blank_pixels() const {
    const int depth = png_get_bit_depth(png_, info_) == 16 ? CV_16U : CV_8U;
    try {
      return {static_cast<int>(png_get_image_height(png_, info_)),
              static_cast<int>(png_get_image_width(png_, info_)),
              CV_MAKETYPE(depth, png_get_channels(png_, info_))};
    } catch (const cv::Exception&) {  // OpenCV's word for it
      throw std::bad_alloc();
    }
  }

  /// Decodes into the rows and reads on to the end, checksums included.
  bool read(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  using Message = std::array<char, 256>;

  [[noreturn]] static void keep_message(png_structp png, png_const_charp message) {
    auto& kept = *static_cast<Message*>(png_get_error_ptr(png));
    std::snprintf(kept.data(), kept.size(), "%s", message);
    png_longjmp(png, 1);
  }

  static void drop_warning(png_structp, png_const_charp) {}

  static void read_on(png_structp png, png_bytep target, size_t count) {
    auto& rest = *static_cast<std::string_view*>(png_get_io_ptr(png));
    if (count > rest.size()) png_error(png, "the file ends in the middle of its data");
    std::copy_n(rest.begin(), count, target);
    rest.remove_prefix(count);
  }

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::string_view rest_;
  Message message_ = {};
};

}  // namespace

cv::Mat decode_png(std::string_view bytes) {
  const auto corrupt = [](const PngDecoder& decoder) {
    return Error("PNG image: corrupt: {}", decoder.message());
  };
  PngDecoder decoder(bytes);
  if (!decoder.start()) throw corrupt(decoder);
  cv::Mat pixels = decoder.blank_pixels();
  std::vector<png_bytep> rows;
  for (int y = 0; y < pixels.rows; ++y) rows.push_back(pixels.ptr(y));
  if (!decoder.read(rows.data())) throw corrupt(decoder);
  return pixels;
}

}  // namespace dalle
