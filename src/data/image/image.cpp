#include "data/image/image.h"

#include <algorithm>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <torch/types.h>

#include "core/ascii.h"
#include "core/error.h"
#include "data/image/area_resize.h"
#include "data/image/exif.h"
#include "data/image/image_file.h"
#include "data/image/jpeg_decoder.h"
#include "data/image/png_decoder.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

/// Many workers decode images in parallel, so OpenCV's own threads would only slow them down.
void keep_opencv_single_threaded() {
  [[maybe_unused]] static const bool done = (cv::setNumThreads(1), true);
}

/// Views the image's pixels without a copy, read-only despite the const_cast.
cv::Mat view(const RgbImage& image) {
  DALLE_CHECK(image.width > 0 && image.height > 0);
  DALLE_CHECK(std::ssize(image.pixels) == image.width * image.height * 3);
  return {static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3,
          const_cast<uint8_t*>(image.pixels.data())};
}

RgbImage blank_image(int64_t width, int64_t height) {
  return {.width = width, .height = height, .pixels = std::vector<uint8_t>(width * height * 3)};
}

/// Blends a channel of opacity `alpha` with the background, rounding to 8 bits once.
template <class Level>
uint8_t blended(Level channel, Level alpha, uint8_t background) {
  using Sum = std::conditional_t<sizeof(Level) == 1, uint32_t, uint64_t>;  // just large enough
  constexpr Sum kWhite = std::numeric_limits<Level>::max();
  const Sum light = Sum{255} * channel * alpha + background * kWhite * (kWhite - alpha);
  return static_cast<uint8_t>((light + kWhite * kWhite / 2) / (kWhite * kWhite));
}

/// Converts decoded pixels of 1 (gray), 3 (BGR) or 4 (BGRA) channels to RGB over the background.
template <class Level>
RgbImage flattened(const cv::Mat& decoded, uint8_t background) {
  constexpr Level kOpaque = std::numeric_limits<Level>::max();
  RgbImage image = blank_image(decoded.cols, decoded.rows);
  const int channels = decoded.channels();
  uint8_t* target = image.pixels.data();
  for (int y = 0; y < decoded.rows; ++y) {
    const Level* source = decoded.ptr<Level>(y);
    for (int x = 0; x < decoded.cols; ++x, source += channels, target += 3) {
      const Level alpha = channels == 4 ? source[3] : kOpaque;
      for (int i = 0; i < 3; ++i)
        target[i] = blended(source[channels == 1 ? 0 : 2 - i], alpha, background);
    }
  }
  return image;
}

/// BMP encoders that do not support transparency set the fourth byte of every pixel to zero.
bool has_zero_alpha(const cv::Mat& decoded) {
  cv::Mat alpha;
  cv::extractChannel(decoded, alpha, 3);
  return cv::countNonZero(alpha) == 0;
}

cv::Mat decode_with_opencv(std::string_view bytes, const ImageFile& file) {
  const cv::Mat encoded(1, static_cast<int>(bytes.size()), CV_8UC1,
                        const_cast<char*>(bytes.data()));
  cv::Mat decoded;
  try {  // IMREAD_COLOR would drop the alpha channel and reveal transparent pixels
    decoded = cv::imdecode(encoded, cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception& error) {
    throw Error("{} image: corrupt: {}", to_string(file.kind), error.err);
  }
  if (decoded.empty()) throw Error("{} image: corrupt or truncated", to_string(file.kind));
  if (file.kind == ImageFileKind::kBmp && decoded.channels() == 4 && has_zero_alpha(decoded))
    cv::cvtColor(decoded, decoded, cv::COLOR_BGRA2BGR);
  return decoded;
}

RgbImage decode_inspected(std::string_view bytes, const ImageFile& file, uint8_t background) {
  if (file.kind == ImageFileKind::kJpeg) return decode_jpeg(bytes);
  const cv::Mat decoded =
      file.kind == ImageFileKind::kPng ? decode_png(bytes) : decode_with_opencv(bytes, file);
  switch (decoded.depth()) {
    case CV_8U:
      return flattened<uint8_t>(decoded, background);
    case CV_16U:
      return flattened<uint16_t>(decoded, background);
    default:
      throw Error("{} image: unsupported channel type, expected 8 or 16 bits",
                  to_string(file.kind));
  }
}

RgbImage to_rgb_image(const cv::Mat& pixels) {
  RgbImage image = blank_image(pixels.cols, pixels.rows);
  for (int y = 0; y < pixels.rows; ++y)
    std::copy_n(pixels.ptr<uint8_t>(y), 3 * image.width,
                image.pixels.begin() + 3 * image.width * y);
  return image;
}

/// Uniform in [low, high].
int64_t uniform_integer(SeedStream& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
}

/// The offset of the square along a side that is `slack` pixels longer.
int64_t square_offset(int64_t slack, CropKind kind, SeedStream& random) {
  switch (kind) {
    case CropKind::kDvae:
      return uniform_integer(random, 0, slack);
    case CropKind::kTransformer: {
      const int64_t first = 3 * slack / 8;
      return uniform_integer(random, first, std::max(first + 1, 5 * slack / 8) - 1);
    }
    case CropKind::kCenter:
      return slack / 2;
  }
  throw Error("unknown crop kind {}", static_cast<int>(kind));
}

/// The side to which the square is scaled before the final crop.
int64_t scaled_side(int64_t square, int64_t size, CropKind kind, SeedStream& random) {
  switch (kind) {
    case CropKind::kDvae:
      return uniform_integer(random, std::min(square, size * 9 / 8),
                             std::min(square, size * 12 / 8));
    case CropKind::kTransformer:
      return uniform_integer(random, size, std::min(square, size * 9 / 8));
    case CropKind::kCenter:
      return size;
  }
  throw Error("unknown crop kind {}", static_cast<int>(kind));
}

}  // namespace

RgbImage decode_image(std::string_view bytes, uint8_t background) {
  keep_opencv_single_threaded();
  const ImageFile file = inspect_image_file(bytes);
  try {
    RgbImage image = decode_inspected(bytes, file, background);
    return upright(std::move(image), exif_orientation(file.exif));
  } catch (const std::bad_alloc&) {
    throw Error("{} image: not enough memory for {} x {} pixels", to_string(file.kind), file.width,
                file.height);
  }
}

std::optional<ImageFormat> find_image_format(std::string_view name) {
  const std::string lower = lower_case(name);
  return lower == "jpeg" ? ImageFormat::kJpeg : find_enum<ImageFormat>(lower);
}

int64_t longest_side(ImageFormat format) {
  // Of libpng (the format's is 2^31 - 1), libjpeg (the format's is 65535), and WebP.
  constexpr int64_t kLongest[] = {1'000'000, 65'500, 16'383};
  return kLongest[static_cast<size_t>(format)];
}

std::string encode_image(const RgbImage& image, ImageFormat format, int quality) {
  DALLE_CHECK(quality >= 0 && quality <= 100);
  keep_opencv_single_threaded();
  cv::Mat bgr;
  cv::cvtColor(view(image), bgr, cv::COLOR_RGB2BGR);
  const std::string suffix = fmt::format(".{}", to_string(format));
  std::vector<int> options;
  if (format == ImageFormat::kJpeg) options = {cv::IMWRITE_JPEG_QUALITY, quality};
  if (format == ImageFormat::kWebp) options = {cv::IMWRITE_WEBP_QUALITY, std::max(1, quality)};
  std::vector<uint8_t> bytes;
  bool succeeded = false;
  try {
    succeeded = cv::imencode(suffix, bgr, bytes, options);
  } catch (const cv::Exception&) {  // equivalent to false: too many pixels for the format
  }
  if (!succeeded)
    throw Error("cannot encode an image of {} x {} pixels as {}", image.width, image.height,
                suffix);
  return {bytes.begin(), bytes.end()};
}

RgbImage crop_image(const RgbImage& image, int64_t size, CropKind kind, SeedStream& random) {
  keep_opencv_single_threaded();
  DALLE_CHECK(size > 0);
  const int64_t square = std::min(image.width, image.height);
  if (square < size)
    throw Error("image too small: {} x {} pixels, expected a short side of at least {}",
                image.width, image.height, size);
  const auto top = static_cast<int>(square_offset(image.height - square, kind, random));
  const auto left = static_cast<int>(square_offset(image.width - square, kind, random));
  const auto side = static_cast<int>(scaled_side(square, size, kind, random));
  const auto extent = static_cast<int>(square);
  const auto target = static_cast<int>(size);
  const bool is_random = kind != CropKind::kCenter;
  const auto y = is_random ? static_cast<int>(uniform_integer(random, 0, side - target)) : 0;
  const auto x = is_random ? static_cast<int>(uniform_integer(random, 0, side - target)) : 0;
  cv::Mat cropped = resize_area(view(image)(cv::Rect(left, top, extent, extent)),
                                cv::Size(side, side), cv::Rect(x, y, target, target));
  if (kind == CropKind::kDvae && random.below(2) == 1) {
    cv::Mat mirrored;
    cv::flip(cropped, mirrored, /*flipCode=*/1);
    cropped = mirrored;
  }
  return to_rgb_image(cropped);
}

RgbImage center_crop(const RgbImage& image, int64_t size) {
  SeedStream unused(0);
  return crop_image(image, size, CropKind::kCenter, unused);
}

at::Tensor image_to_tensor(const RgbImage& image) {
  at::Tensor tensor = torch::empty({3, image.height, image.width}, torch::kUInt8);
  std::vector<cv::Mat> planes;
  for (int64_t channel = 0; channel < 3; ++channel)
    planes.emplace_back(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC1,
                        tensor[channel].data_ptr());
  cv::split(view(image), planes);  // into the tensor, as the sizes are right
  return tensor;
}

at::Tensor unit_images(const at::Tensor& images, c10::Device device) {
  return to_device(images, device).to(torch::kFloat32).div_(255);
}

RgbImage tensor_to_image(const at::Tensor& image) {
  DALLE_CHECK(image.dim() == 3 && image.size(0) == 3 && image.numel() > 0);
  at::Tensor levels = image.detach().cpu();
  if (levels.scalar_type() != torch::kUInt8) {
    DALLE_CHECK(levels.is_floating_point());
    levels = levels.to(torch::kFloat);
    if (!levels.isfinite().all().item<bool>())
      throw Error("image: found a pixel that is not finite, expected values in [0, 1]");
    levels = levels.clamp(0, 1).mul(255).round().to(torch::kUInt8);
  }
  levels = levels.permute({1, 2, 0}).contiguous();  // [H, W, 3]
  const auto* first = levels.const_data_ptr<uint8_t>();
  return {.width = image.size(2),
          .height = image.size(1),
          .pixels = std::vector<uint8_t>(first, first + levels.numel())};
}

}  // namespace dalle
