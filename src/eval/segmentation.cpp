#include "eval/segmentation.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dalle {
namespace {

/// The weights of the source pixels that make up one pixel of the result.
struct Taps {
  int64_t first = 0;
  std::vector<float> weights;
};

double catmull_rom(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

std::vector<Taps> resize_taps(int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double width = std::max(scale, 1.0);
  std::vector<Taps> taps(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale - 0.5;
    const auto first = static_cast<int64_t>(std::floor(center - 2 * width)) + 1;
    const auto last = static_cast<int64_t>(std::floor(center + 2 * width));
    Taps& tap = taps[static_cast<size_t>(i)];
    tap.first = std::clamp<int64_t>(first, 0, from - 1);
    tap.weights.resize(static_cast<size_t>(std::clamp<int64_t>(last, 0, from - 1) - tap.first + 1));
    double sum = 0;
    for (int64_t j = first; j <= last; ++j)
      sum += catmull_rom((static_cast<double>(j) - center) / width);
    for (int64_t j = first; j <= last; ++j)  // border pixels are repeated beyond the border
      tap.weights[static_cast<size_t>(std::clamp<int64_t>(j, 0, from - 1) - tap.first)] +=
          static_cast<float>(catmull_rom((static_cast<double>(j) - center) / width) / sum);
  }
  return taps;
}

/// Applies the taps to the columns and then to the rows of a plane.
/// @param from  side of the plane; the result has as many rows and columns as there are taps
std::vector<float> filter_plane(const std::vector<float>& plane, int64_t from,
                                const std::vector<Taps>& taps) {
  const auto side = static_cast<int64_t>(taps.size());
  std::vector<float> tall(static_cast<size_t>(side * from));  // [side, from]
  for (int64_t row = 0; row < side; ++row) {
    const Taps& tap = taps[static_cast<size_t>(row)];
    float* out = &tall[static_cast<size_t>(row * from)];
    for (size_t k = 0; k < tap.weights.size(); ++k) {
      const float weight = tap.weights[k];
      const float* in = &plane[(static_cast<size_t>(tap.first) + k) * static_cast<size_t>(from)];
      for (int64_t column = 0; column < from; ++column) out[column] += weight * in[column];
    }
  }
  std::vector<float> result(static_cast<size_t>(side * side));
  for (int64_t row = 0; row < side; ++row) {
    const float* in = &tall[static_cast<size_t>(row * from)];
    float* out = &result[static_cast<size_t>(row * side)];
    for (int64_t column = 0; column < side; ++column) {
      const Taps& tap = taps[static_cast<size_t>(column)];
      float sum = 0;
      for (size_t k = 0; k < tap.weights.size(); ++k)
        sum += tap.weights[k] * in[static_cast<size_t>(tap.first) + k];
      out[column] = std::clamp(sum, 0.0F, 255.0F);
    }
  }
  return result;
}

/// 1 for each pixel that has `value` or a neighbor that has it.
PixelMask spread_value(const PixelMask& mask, uint8_t value) {
  const auto width = static_cast<size_t>(mask.width), size = mask.pixels.size();
  std::vector<uint8_t> rows(size), all(size);
  for (size_t begin = 0; begin < size; begin += width) {
    const uint8_t* in = &mask.pixels[begin];
    uint8_t* out = &rows[begin];
    for (size_t i = 0; i < width; ++i) out[i] = in[i] == value;
    for (size_t i = 0; i + 1 < width; ++i) out[i] |= in[i + 1] == value;
    for (size_t i = 1; i < width; ++i) out[i] |= in[i - 1] == value;
  }
  for (size_t i = 0; i < size; ++i) all[i] = rows[i];
  for (size_t i = 0; i + width < size; ++i) all[i] |= rows[i + width];
  for (size_t i = width; i < size; ++i) all[i] |= rows[i - width];
  return {.height = mask.height, .width = mask.width, .pixels = std::move(all)};
}

/// Indices of pixels of a mask, in raster order of the mask.
using PixelList = std::vector<int32_t>;

/// Calls `visit` with the indices of a pixel's four neighbors.
template <class Visit>
void for_each_neighbor(const PixelMask& mask, int32_t pixel, Visit&& visit) {
  const auto width = static_cast<int32_t>(mask.width),
             size = width * static_cast<int32_t>(mask.height);
  const int32_t column = pixel % width;
  if (pixel >= width) visit(pixel - width);
  if (pixel + width < size) visit(pixel + width);
  if (column > 0) visit(pixel - 1);
  if (column + 1 < width) visit(pixel + 1);
}

std::vector<PixelList> components(const PixelMask& mask, int64_t min_pixels) {
  std::vector<uint8_t> left = mask.pixels;
  std::vector<PixelList> found;
  for (size_t start = 0; start < left.size(); ++start) {
    if (left[start] == 0) continue;
    PixelList pixels = {static_cast<int32_t>(start)};
    left[start] = 0;
    for (size_t done = 0; done < pixels.size(); ++done)
      for_each_neighbor(mask, pixels[done], [&](int32_t next) {
        if (std::exchange(left[static_cast<size_t>(next)], uint8_t{0}) != 0) pixels.push_back(next);
      });
    if (static_cast<int64_t>(pixels.size()) >= min_pixels) found.push_back(std::move(pixels));
  }
  return found;
}

/// The region that the given pixels of a mask occupy. The mask is at row `top`, column `left`.
Region region_of(const PixelList& pixels, int64_t width, int64_t top, int64_t left) {
  int64_t first_row = pixels.front() / width, last_row = first_row;
  int64_t first_column = width, last_column = -1;
  for (const int32_t pixel : pixels) {
    first_row = std::min(first_row, pixel / width);
    last_row = std::max(last_row, pixel / width);
    first_column = std::min(first_column, pixel % width);
    last_column = std::max(last_column, pixel % width);
  }
  Region region{.top = top + first_row - 1,
                .left = left + first_column - 1,
                .mask = {.height = last_row - first_row + 3,
                         .width = last_column - first_column + 3,
                         .pixels = {}}};
  region.mask.pixels.resize(static_cast<size_t>(region.mask.height * region.mask.width));
  for (const int32_t pixel : pixels)
    region.mask.pixels[static_cast<size_t>((pixel / width - first_row + 1) * region.mask.width +
                                           pixel % width - first_column + 1)] = 1;
  return region;
}

/// Grows disjoint sets of pixels over the mask, all at the same speed, until they fill it.
void grow(const PixelMask& mask, std::vector<PixelList>& parts) {
  std::vector<uint8_t> left = mask.pixels;
  std::vector<std::pair<int32_t, size_t>> front;  // pixel and part
  for (size_t part = 0; part < parts.size(); ++part)
    for (const int32_t pixel : parts[part]) {
      left[static_cast<size_t>(pixel)] = 0;
      front.emplace_back(pixel, part);
    }
  for (size_t done = 0; done < front.size(); ++done) {
    const auto [pixel, part] = front[done];
    for_each_neighbor(mask, pixel, [&, owner = part](int32_t next) {
      if (std::exchange(left[static_cast<size_t>(next)], uint8_t{0}) == 0) return;
      parts[owner].push_back(next);
      front.emplace_back(next, owner);
    });
  }
}

}  // namespace

ColorPlanes resize_bicubic(const RgbImage& image, int64_t side) {
  const int64_t from = image.width;
  const std::vector<Taps> taps = resize_taps(from, side);
  ColorPlanes result{.side = side, .planes = {}};
  std::vector<float> plane(static_cast<size_t>(from * from));
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t i = 0; i < plane.size(); ++i) plane[i] = image.pixels[3 * i + channel];
    result.planes[channel] = filter_plane(plane, from, taps);
  }
  return result;
}

PixelMask dilate(const PixelMask& mask) {
  return spread_value(mask, 1);
}

PixelMask erode(const PixelMask& mask) {
  PixelMask result = spread_value(mask, 0);
  for (uint8_t& pixel : result.pixels) pixel ^= 1;
  return result;
}

std::vector<Region> connected_regions(const PixelMask& mask, int64_t min_pixels) {
  std::vector<Region> regions;
  for (const PixelList& pixels : components(mask, min_pixels))
    regions.push_back(region_of(pixels, mask.width, 0, 0));
  return regions;
}

std::vector<Region> split_region(const Region& region, int64_t min_pixels) {
  std::vector<PixelList> parts;
  PixelMask left = region.mask;
  do {
    left = erode(left);
    parts = components(left, min_pixels);
    if (parts.empty()) return {};
  } while (parts.size() == 1);
  grow(region.mask, parts);
  std::vector<Region> regions;
  for (const PixelList& pixels : parts)
    regions.push_back(region_of(pixels, region.mask.width, region.top, region.left));
  return regions;
}

}  // namespace dalle
