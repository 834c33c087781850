#include "data/image/area_resize.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <opencv2/core/hal/intrin.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"

namespace dalle {
namespace {

constexpr int kChannels = 3;

/// A pixel's share of a mean along one axis.
struct Tap {
  int source;
  float weight;
};

/// The means along one axis; those of target i are taps[begin[i]] to taps[begin[i + 1] - 1].
struct AxisTaps {
  std::vector<Tap> taps;
  std::vector<size_t> begin = {0};
};

/// The taps of targets [first, first + count) of `target` that divide `source` pixels equally. As
/// in OpenCV, a pixel of which less than a thousandth is covered does not count.
AxisTaps axis_taps(int source, int target, int first, int count) {
  constexpr double kNegligible = 1e-3;
  const double scale = 1 / (static_cast<double>(target) / source);
  AxisTaps axis;
  for (int i = first; i < first + count; ++i) {
    const double begin = i * scale, end = begin + scale;
    const double covered = std::min(scale, source - begin);
    const auto add = [&](int pixel, double share) {
      axis.taps.push_back({pixel, static_cast<float>(share / covered)});
    };
    const int last = std::min(static_cast<int>(std::floor(end)), source - 1);
    const int whole = std::min(static_cast<int>(std::ceil(begin)), last);
    if (whole - begin > kNegligible) add(whole - 1, whole - begin);
    for (int pixel = whole; pixel < last; ++pixel) add(pixel, 1);
    if (end - last > kNegligible) add(last, std::min({end - last, 1.0, covered}));
    axis.begin.push_back(axis.taps.size());
  }
  return axis;
}

/// A pixel and the first channel of the next one, so that a sum needs one instruction.
using FourFloats = float __attribute__((vector_size(16)));

FourFloats to_floats(const uint8_t* bytes) {
  int32_t four = 0;  // aligned, as OpenCV expects
  std::memcpy(&four, bytes, sizeof four);
  const auto integers = cv::v_load_expand_q(reinterpret_cast<const uint8_t*>(&four));
  FourFloats floats;
  cv::v_store(reinterpret_cast<float*>(&floats), cv::v_cvt_f32(cv::v_reinterpret_as_s32(integers)));
  return floats;
}

/// @param pixels  a row and one more byte
/// @param means   one float more than the channels of the result
void average_row(const uint8_t* pixels, const AxisTaps& columns, float* means) {
  const Tap* tap = columns.taps.data();
  for (size_t x = 0; x + 1 < columns.begin.size(); ++x, means += kChannels) {
    FourFloats sum = {0, 0, 0, 0};
    for (const Tap* end = columns.taps.data() + columns.begin[x + 1]; tap != end; ++tap)
      sum += to_floats(pixels + kChannels * tap->source) * tap->weight;
    std::memcpy(means, &sum, sizeof sum);  // the next pixel overwrites the last float
  }
}

}  // namespace

cv::Mat resize_area(const cv::Mat& image, cv::Size scaled, const cv::Rect& part) {
  DALLE_CHECK(image.type() == CV_8UC3);
  DALLE_CHECK(scaled.width <= image.cols && scaled.height <= image.rows);
  if (image.cols % scaled.width == 0 && image.rows % scaled.height == 0) {
    cv::Mat whole;  // OpenCV adds integers here, and copies if the size is the same
    cv::resize(image, whole, scaled, 0, 0, cv::INTER_AREA);
    return whole(part);
  }
  const AxisTaps columns = axis_taps(image.cols, scaled.width, part.x, part.width);
  const AxisTaps rows = axis_taps(image.rows, scaled.height, part.y, part.height);
  cv::Mat result(part.height, part.width, CV_8UC3);
  const size_t row_bytes = static_cast<size_t>(image.cols) * kChannels;
  const int values = part.width * kChannels;
  std::vector<uint8_t> pixels(row_bytes + 1);
  // Of all values and at least one more float.
  std::vector<FourFloats> means(static_cast<size_t>(values) / 4 + 1), sums(means.size());
  int averaged = -1;
  for (int y = 0; y < part.height; ++y) {
    std::ranges::fill(sums, FourFloats{0, 0, 0, 0});
    for (size_t i = rows.begin[y]; i < rows.begin[y + 1]; ++i) {
      const Tap& row = rows.taps[i];
      if (row.source != averaged) {
        std::memcpy(pixels.data(), image.ptr(row.source), row_bytes);
        average_row(pixels.data(), columns, reinterpret_cast<float*>(means.data()));
        averaged = row.source;
      }
      for (size_t four = 0; four < sums.size(); ++four) sums[four] += row.weight * means[four];
    }
    cv::Mat rounded = result.row(y);
    cv::Mat(1, part.width, CV_32FC3, sums.data()).convertTo(rounded, CV_8U);
  }
  return result;
}

}  // namespace dalle
