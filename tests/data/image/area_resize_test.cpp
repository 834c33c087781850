#include "data/image/area_resize.h"

#include <random>

#include <gtest/gtest.h>
#include <opencv2/imgproc.hpp>

namespace dalle {
namespace {

TEST(AreaResize, EqualsOpenCvForAnyScaleAndPart) {
  std::mt19937 random(3);
  const auto uniform = [&](int low, int high) {
    return std::uniform_int_distribution(low, high)(random);
  };
  for (int trial = 0; trial < 300; ++trial) {
    // A part of a wider image, whose rows are not contiguous, in half of the trials.
    cv::Mat image(uniform(1, 90), uniform(1, 90), CV_8UC3);
    cv::randu(image, 0, 256);
    const int left = trial % 2 == 0 ? 0 : uniform(0, image.cols - 1);
    const cv::Mat source = image.colRange(left, image.cols);
    const cv::Size scaled(uniform(1, source.cols), uniform(1, source.rows));
    const int x = uniform(0, scaled.width - 1), y = uniform(0, scaled.height - 1);
    const cv::Rect part(x, y, uniform(1, scaled.width - x), uniform(1, scaled.height - y));
    cv::Mat expected;
    cv::resize(source, expected, scaled, 0, 0, cv::INTER_AREA);
    EXPECT_EQ(cv::norm(resize_area(source, scaled, part), expected(part), cv::NORM_INF), 0)
        << source.size() << " to " << scaled << ", part " << part;
  }
}

TEST(AreaResize, KeepsWhite) {
  // Weights whose sum exceeds 1 by rounding must not wrap around to black.
  for (int side = 100; side < 130; ++side) {
    const cv::Mat white(131, 131, CV_8UC3, cv::Scalar::all(255));
    const cv::Mat scaled = resize_area(white, {side, side}, {0, 0, side, side});
    EXPECT_EQ(cv::norm(scaled, cv::Mat(side, side, CV_8UC3, cv::Scalar::all(255)), cv::NORM_INF),
              0);
  }
}

}  // namespace
}  // namespace dalle
