#include "data/image/jpeg_decoder.h"

// clang-format off
#include <cstdio>     // jpeglib.h requires FILE
#include <jpeglib.h>
#include <jerror.h>   // must follow jpeglib.h
// clang-format on

#include <csetjmp>
#include <string>

#include "core/error.h"
#include "data/image/image_file.h"

namespace dalle {
namespace {

/// libjpeg reports errors by callbacks that must not return, and C++ exceptions must not cross its
/// frames, so the callbacks use longjmp.
struct ErrorReport {
  jpeg_error_mgr callbacks;  // first, so that a pointer to it also points to the report
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX];
  bool has_too_many_scans;
};

[[noreturn]] void on_jpeg_error(j_common_ptr decoder) {
  auto* report = reinterpret_cast<ErrorReport*>(decoder->err);
  report->callbacks.format_message(decoder, report->message);
  std::longjmp(report->on_error, 1);
}

/// Encoders write about ten scans. Each scan costs a pass over the whole image, however few bytes
/// it has, so a small file with many scans could keep a worker busy for minutes.
constexpr int kMaxScans = 100;
constexpr int64_t kMaxScannedPixels = 16 * kMaxImagePixels;

/// libjpeg calls this repeatedly while it reads scans.
void limit_scans(j_common_ptr decoder) {
  const auto* state = reinterpret_cast<jpeg_decompress_struct*>(decoder);
  const int64_t pixels = int64_t{state->image_width} * state->image_height;
  const int scans = state->input_scan_number;
  if (scans <= kMaxScans && scans * pixels <= kMaxScannedPixels) return;
  auto* report = reinterpret_cast<ErrorReport*>(decoder->err);
  report->has_too_many_scans = true;
  std::longjmp(report->on_error, 1);
}

bool affects_pixels(int warning) {
  switch (warning) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      return true;
    default:
      return false;
  }
}

void receive_message(j_common_ptr decoder, int level) {
  const bool is_warning = level < 0;
  if (is_warning && affects_pixels(decoder->err->msg_code)) on_jpeg_error(decoder);
}

void print_nothing(j_common_ptr) {}

/// Owns a libjpeg decoder.
class JpegDecoder {
 public:
  JpegDecoder() {
    state_.err = jpeg_std_error(&report_.callbacks);
    report_.callbacks.error_exit = on_jpeg_error;
    report_.callbacks.emit_message = receive_message;
    report_.callbacks.output_message = print_nothing;
    progress_.progress_monitor = limit_scans;
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&state_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  /// The error of the step that returned false.
  Error error() const {
    if (report_.has_too_many_scans)
      return Error("JPEG image: at least {} scans of {} x {} pixels, more than the limit",
                   state_.input_scan_number, state_.image_width, state_.image_height);
    return Error("JPEG image: corrupt or truncated: {}", report_.message);
  }
  bool is_inverted_cmyk() const { return state_.saw_Adobe_marker; }
  int channels() const { return state_.output_components; }

  /// Reads the header; returns false after an error. A function that calls setjmp() must not have
  /// local objects with destructors.
  bool start(std::string_view bytes) {
    if (setjmp(report_.on_error) != 0) return false;
    jpeg_create_decompress(&state_);
    state_.progress = &progress_;
    jpeg_mem_src(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&state_, TRUE);
    const bool is_cmyk = state_.jpeg_color_space == JCS_CMYK || state_.jpeg_color_space == JCS_YCCK;
    state_.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_calc_output_dimensions(&state_);
    return true;
  }

  int64_t width() const { return state_.output_width; }
  int64_t height() const { return state_.output_height; }

  /// Decodes into rows of width() * channels() bytes and reads up to the end marker.
  bool read(uint8_t* pixels) {
    if (setjmp(report_.on_error) != 0) return false;
    jpeg_start_decompress(&state_);
    const size_t row_bytes = size_t{state_.output_width} * state_.output_components;
    while (state_.output_scanline < state_.output_height) {
      JSAMPROW row = pixels + row_bytes * state_.output_scanline;
      jpeg_read_scanlines(&state_, &row, 1);
    }
    jpeg_finish_decompress(&state_);
    return true;
  }

 private:
  ErrorReport report_ = {};
  jpeg_progress_mgr progress_ = {};
  jpeg_decompress_struct state_ = {};
};

/// @param pixels  4 bytes per pixel; Adobe software stores inverted inks, with 255 for none
std::vector<uint8_t> rgb_of_cmyk(const std::vector<uint8_t>& pixels, bool is_inverted) {
  std::vector<uint8_t> rgb(pixels.size() / 4 * 3);
  for (size_t i = 0; i < pixels.size() / 4; ++i) {
    const auto light = [&](size_t ink) {
      return is_inverted ? pixels[4 * i + ink] : 255 - pixels[4 * i + ink];
    };
    for (size_t channel = 0; channel < 3; ++channel)
      rgb[3 * i + channel] = static_cast<uint8_t>((light(channel) * light(3) + 127) / 255);
  }
  return rgb;
}

}  // namespace

RgbImage decode_jpeg(std::string_view bytes) {
  JpegDecoder decoder;
  if (!decoder.start(bytes)) throw decoder.error();
  RgbImage image;
  image.width = decoder.width();
  image.height = decoder.height();
  const bool is_cmyk = decoder.channels() == 4;
  image.pixels.resize(image.width * image.height * decoder.channels());
  if (!decoder.read(image.pixels.data())) throw decoder.error();
  if (is_cmyk) image.pixels = rgb_of_cmyk(image.pixels, decoder.is_inverted_cmyk());
  return image;
}

}  // namespace dalle
