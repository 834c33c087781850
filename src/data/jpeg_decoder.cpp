#include "dalle/data/jpeg_decoder.h"

// clang-format off
#include <cstdio>     // jpeglib.h wants FILE declared
#include <jpeglib.h>
#include <jerror.h>   // its list of messages depends on what jpeglib.h defines
// clang-format on

#include <csetjmp>
#include <string>

#include "dalle/core/error.h"
#include "dalle/data/picture_file.h"

namespace dalle {
namespace {

/// libjpeg reports through callbacks that must not return; no C++ exception may cross its frames.
struct ErrorReport {
  jpeg_error_mgr callbacks;  // first, so that libjpeg's pointer to it is one to the report
  std::jmp_buf way_out;
  char message[JMSG_LENGTH_MAX];
  bool has_too_many_scans;
};

[[noreturn]] void give_up(j_common_ptr decoder) {
  auto* report = reinterpret_cast<ErrorReport*>(decoder->err);
  report->callbacks.format_message(decoder, report->message);
  std::longjmp(report->way_out, 1);
}

/// Encoders write about ten scans. Each one passes over all of the image, however few bytes it has,
/// so that a small file of many scans could keep a worker busy for minutes.
constexpr int kMaxScans = 100;
constexpr int64_t kMaxScannedPixels = 16 * kMaxPicturePixels;

/// libjpeg calls this again and again while it reads scans.
void limit_scans(j_common_ptr decoder) {
  const auto* state = reinterpret_cast<jpeg_decompress_struct*>(decoder);
  const int64_t pixels = int64_t{state->image_width} * state->image_height;
  const int scans = state->input_scan_number;
  if (scans <= kMaxScans && scans * pixels <= kMaxScannedPixels) return;
  auto* report = reinterpret_cast<ErrorReport*>(decoder->err);
  report->has_too_many_scans = true;
  std::longjmp(report->way_out, 1);
}

bool spoils_pixels(int warning) {
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
  if (is_warning && spoils_pixels(decoder->err->msg_code)) give_up(decoder);
}

void print_nothing(j_common_ptr) {}

/// A decoder that frees its memory on every way out.
class JpegDecoder {
 public:
  JpegDecoder() {
    state_.err = jpeg_std_error(&report_.callbacks);
    report_.callbacks.error_exit = give_up;
    report_.callbacks.emit_message = receive_message;
    report_.callbacks.output_message = print_nothing;
    progress_.progress_monitor = limit_scans;
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&state_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  /// What went wrong, after a step that returned false.
  Error error() const {
    if (report_.has_too_many_scans)
      return Error("JPEG image: at least {} scans of {} x {} pixels, more than are allowed",
                   state_.input_scan_number, state_.image_width, state_.image_height);
    return Error("JPEG image: corrupt or truncated: {}", report_.message);
  }
  bool is_inverted_cmyk() const { return state_.saw_Adobe_marker; }
  int channels() const { return state_.output_components; }

  /// Reads the header; false after an error. setjmp() wants functions without destructors to run.
  bool start(std::string_view bytes) {
    if (setjmp(report_.way_out) != 0) return false;
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

  /// Decodes into rows of width() * channels() bytes and reads on to the end marker.
  bool read(uint8_t* pixels) {
    if (setjmp(report_.way_out) != 0) return false;
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

/// @param pixels  4 bytes a pixel; Adobe's programs store inks inverted, 255 for none
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

Picture decode_jpeg(std::string_view bytes) {
  JpegDecoder decoder;
  if (!decoder.start(bytes)) throw decoder.error();
  Picture picture;
  picture.width = decoder.width();
  picture.height = decoder.height();
  const bool is_cmyk = decoder.channels() == 4;
  picture.pixels.resize(picture.width * picture.height * decoder.channels());
  if (!decoder.read(picture.pixels.data())) throw decoder.error();
  if (is_cmyk) picture.pixels = rgb_of_cmyk(picture.pixels, decoder.is_inverted_cmyk());
  return picture;
}

}  // namespace dalle
