#pragma once

#include <opencv2/core/mat.hpp>

namespace dalle {

/// Scales an image down, each pixel of the result being the mean of the pixels that it covers, and
/// returns a part of the result. Equal to the same part of cv::resize() with cv::INTER_AREA, but
/// three to four times as fast, mostly because only that part is computed.
///
/// @param image   3 channels of 8 bits
/// @param scaled  width and height of the whole scaled image, at most those of `image`
/// @param part    of the scaled image
/// @return        part.height x part.width pixels
cv::Mat resize_area(const cv::Mat& image, cv::Size scaled, const cv::Rect& part);

}  // namespace dalle
