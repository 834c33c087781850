#include "dalle/data/image.h"

#include <algorithm>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <torch/types.h>

#include "dalle/core/ascii.h"
#include "dalle/core/error.h"
#include "dalle/data/exif.h"
#include "dalle/data/jpeg_decoder.h"
#include "dalle/data/picture_file.h"

#include "png_decoder.h"

namespace dalle {
namespace {

/// Pictures are read by many workers at once: OpenCV's own threads would only get in their way.
void keep_opencv_single_threaded() {
  static const bool done = (cv::setNumThreads(1), true);
  static_cast<void>(done);
}

/// The picture's pixels as OpenCV sees them, without a copy. Nothing here writes through it.
cv::Mat view(const Picture& picture) {
  DALLE_CHECK(picture.width > 0 && picture.height > 0);
  DALLE_CHECK(std::ssize(picture.pixels) == picture.width * picture.height * 3);
  return {static_cast<int>(picture.height), static_cast<int>(picture.width), CV_8UC3,
          const_cast<uint8_t*>(picture.pixels.data())};
}

Picture blank_picture(int64_t width, int64_t height) {
  return {.width = width, .height = height, .pixels = std::vector<uint8_t>(width * height * 3)};
}

/// A channel of opacity `alpha` over the background, in 8 bits and rounded once.
template <class Level>
uint8_t composed(Level channel, Level alpha, uint8_t background) {
  using Sum = std::conditional_t<sizeof(Level) == 1, uint32_t, uint64_t>;  // large enough, no more
  constexpr Sum kWhite = std::numeric_limits<Level>::max();
  const Sum light = Sum{255} * channel * alpha + background * kWhite * (kWhite - alpha);
  return static_cast<uint8_t>((light + kWhite * kWhite / 2) / (kWhite * kWhite));
}

/// Lays decoded pixels of 1 (gray), 3 (BGR) or 4 (BGRA) channels over the background, as RGB.
template <class Level>
Picture flattened(const cv::Mat& decoded, uint8_t background) {
  constexpr Level kOpaque = std::numeric_limits<Level>::max();
  Picture picture = blank_picture(decoded.cols, decoded.rows);
  const int channels = decoded.channels();
  uint8_t* target = picture.pixels.data();
  for (int y = 0; y < decoded.rows; ++y) {
    const Level* source = decoded.ptr<Level>(y);
    for (int x = 0; x < decoded.cols; ++x, source += channels, target += 3) {
      const Level alpha = channels == 4 ? source[3] : kOpaque;
      for (int i = 0; i < 3; ++i)
        target[i] = composed(source[channels == 1 ? 0 : 2 - i], alpha, background);
    }
  }
  return picture;
}

/// BMP writers that know no transparency leave the fourth byte of a pixel at zero.
bool has_no_opaque_pixel(const cv::Mat& decoded) {
  cv::Mat alpha;
  cv::extractChannel(decoded, alpha, 3);
  return cv::countNonZero(alpha) == 0;
}

cv::Mat decode_with_opencv(std::string_view bytes, const PictureFile& file) {
  const cv::Mat encoded(1, static_cast<int>(bytes.size()), CV_8UC1,
                        const_cast<char*>(bytes.data()));
  cv::Mat decoded;
  try {  // IMREAD_COLOR would drop the alpha channel and show what it hides
    decoded = cv::imdecode(encoded, cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception& error) {
    throw Error("{} image: corrupt: {}", picture_file_name(file.kind), error.err);
  }
  if (decoded.empty())
    throw Error("{} image: corrupt or truncated: cannot be decoded", picture_file_name(file.kind));
  if (file.kind == PictureFileKind::kBmp && decoded.channels() == 4 && has_no_opaque_pixel(decoded))
    cv::cvtColor(decoded, decoded, cv::COLOR_BGRA2BGR);
  return decoded;
}

Picture decode_accepted(std::string_view bytes, const PictureFile& file, uint8_t background) {
  if (file.kind == PictureFileKind::kJpeg) return decode_jpeg(bytes);
  const cv::Mat decoded =
      file.kind == PictureFileKind::kPng ? decode_png(bytes) : decode_with_opencv(bytes, file);
  switch (decoded.depth()) {
    case CV_8U:
      return flattened<uint8_t>(decoded, background);
    case CV_16U:
      return flattened<uint16_t>(decoded, background);
    default:
      throw Error("{} image: unsupported channel type, expected 8 or 16 bits",
                  picture_file_name(file.kind));
  }
}

Picture copied(const cv::Mat& pixels) {
  Picture picture = blank_picture(pixels.cols, pixels.rows);
  for (int y = 0; y < pixels.rows; ++y)
    std::copy_n(pixels.ptr<uint8_t>(y), 3 * picture.width,
                picture.pixels.begin() + 3 * picture.width * y);
  return picture;
}

/// Uniform in [low, high].
int64_t draw(SeedStream& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
}

/// Offset of the square along a side that is `slack` longer than it.
int64_t square_offset(int64_t slack, CropKind kind, SeedStream& random) {
  switch (kind) {
    case CropKind::kDvae:
      return draw(random, 0, slack);
    case CropKind::kTransformer: {
      const int64_t first = 3 * slack / 8;
      return draw(random, first, std::max(first + 1, 5 * slack / 8) - 1);
    }
    case CropKind::kCenter:
      return slack / 2;
  }
  throw Error("crop kind {} is unknown", static_cast<int>(kind));
}

/// Side that the square is scaled to before the final crop.
int64_t scaled_side(int64_t square, int64_t size, CropKind kind, SeedStream& random) {
  switch (kind) {
    case CropKind::kDvae:
      return draw(random, std::min(square, size * 9 / 8), std::min(square, size * 12 / 8));
    case CropKind::kTransformer:
      return draw(random, size, std::min(square, size * 9 / 8));
    case CropKind::kCenter:
      return size;
  }
  throw Error("crop kind {} is unknown", static_cast<int>(kind));
}

}  // namespace

Picture decode_picture(std::string_view bytes, uint8_t background) {
  keep_opencv_single_threaded();
  const PictureFile file = inspect_picture_file(bytes);
  try {
    Picture picture = decode_accepted(bytes, file, background);
    return upright(std::move(picture), exif_orientation(file.exif));
  } catch (const std::bad_alloc&) {
    throw Error("{} image: not enough memory for {} x {} pixels", picture_file_name(file.kind),
                file.width, file.height);
  }
}

std::optional<PictureFormat> find_picture_format(std::string_view name) {
  const std::string lower = lower_case(name);
  if (lower == "png") return PictureFormat::kPng;
  if (lower == "jpg" || lower == "jpeg") return PictureFormat::kJpeg;
  if (lower == "webp") return PictureFormat::kWebp;
  return std::nullopt;
}

std::string_view extension_of(PictureFormat format) {
  switch (format) {
    case PictureFormat::kPng:
      return "png";
    case PictureFormat::kJpeg:
      return "jpg";
    case PictureFormat::kWebp:
      return "webp";
  }
  throw Error("image format {} has no name", static_cast<int>(format));
}

int64_t longest_side(PictureFormat format) {
  switch (format) {
    case PictureFormat::kPng:
      return 1'000'000;  // libpng's limit; the format's is 2^31 - 1
    case PictureFormat::kJpeg:
      return 65'500;  // libjpeg's limit; the format's is 65535
    case PictureFormat::kWebp:
      return 16'383;
  }
  throw Error("image format {} has no limit", static_cast<int>(format));
}

std::string encode_picture(const Picture& picture, PictureFormat format) {
  keep_opencv_single_threaded();
  cv::Mat bgr;
  cv::cvtColor(view(picture), bgr, cv::COLOR_RGB2BGR);
  constexpr int kQuality = 95;
  const std::string suffix = fmt::format(".{}", extension_of(format));
  std::vector<int> options;
  if (format == PictureFormat::kJpeg) options = {cv::IMWRITE_JPEG_QUALITY, kQuality};
  if (format == PictureFormat::kWebp) options = {cv::IMWRITE_WEBP_QUALITY, kQuality};
  std::vector<uint8_t> bytes;
  bool succeeded = false;
  try {
    succeeded = cv::imencode(suffix, bgr, bytes, options);
  } catch (const cv::Exception&) {  // the same as false: the format cannot hold so many pixels
  }
  if (!succeeded)
    throw Error("a picture of {} x {} pixels cannot be written as {}", picture.width,
                picture.height, suffix);
  return {bytes.begin(), bytes.end()};
}

Picture crop_picture(const Picture& picture, int64_t size, CropKind kind, SeedStream& random) {
  keep_opencv_single_threaded();
  DALLE_CHECK(size > 0);
  const int64_t square = std::min(picture.width, picture.height);
  if (square < size)
    throw Error("image too small: {} x {} pixels, expected at least {} on the short side",
                picture.width, picture.height, size);
  const auto top = static_cast<int>(square_offset(picture.height - square, kind, random));
  const auto left = static_cast<int>(square_offset(picture.width - square, kind, random));
  const auto side = static_cast<int>(scaled_side(square, size, kind, random));
  const auto extent = static_cast<int>(square);
  cv::Mat scaled;
  cv::resize(view(picture)(cv::Rect(left, top, extent, extent)), scaled, cv::Size(side, side), 0, 0,
             cv::INTER_AREA);
  const auto target = static_cast<int>(size);
  const bool is_random = kind != CropKind::kCenter;
  const auto y = is_random ? static_cast<int>(draw(random, 0, side - target)) : 0;
  const auto x = is_random ? static_cast<int>(draw(random, 0, side - target)) : 0;
  cv::Mat cropped = scaled(cv::Rect(x, y, target, target));
  if (kind == CropKind::kDvae && random.below(2) == 1) {
    cv::Mat mirrored;
    cv::flip(cropped, mirrored, /*flipCode=*/1);
    cropped = mirrored;
  }
  return copied(cropped);
}

at::Tensor picture_to_tensor(const Picture& picture) {
  const cv::Mat pixels = view(picture);
  return torch::from_blob(pixels.data, {picture.height, picture.width, 3}, torch::kUInt8)
      .permute({2, 0, 1})
      .clone(at::MemoryFormat::Contiguous);  // [3, H, W]
}

Picture tensor_to_picture(const at::Tensor& image) {
  DALLE_CHECK(image.dim() == 3 && image.size(0) == 3 && image.numel() > 0);
  at::Tensor levels = image.detach().cpu();
  if (levels.scalar_type() != torch::kUInt8) {
    DALLE_CHECK(levels.is_floating_point());
    levels = levels.to(torch::kFloat);
    if (!levels.isfinite().all().item<bool>())
      throw Error("picture: a pixel is not a finite number, expected values in [0, 1]");
    levels = levels.clamp(0, 1).mul(255).round().to(torch::kUInt8);
  }
  levels = levels.permute({1, 2, 0}).contiguous();  // [H, W, 3]
  const auto* first = levels.const_data_ptr<uint8_t>();
  return {.width = image.size(2),
          .height = image.size(1),
          .pixels = std::vector<uint8_t>(first, first + levels.numel())};
}

}  // namespace dalle
