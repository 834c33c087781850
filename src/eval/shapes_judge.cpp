#include "eval/shapes_judge.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>

#include "core/error.h"
#include "data/shapes/shape_outline.h"
#include "data/shapes/shapes_renderer.h"
#include "eval/segmentation.h"

namespace dalle {
namespace {

constexpr int64_t kSide = 256;         // all images are judged at this size
constexpr int64_t kBorder = 4;         // objects are at least 0.02 of the side from the border
constexpr float kMinContrast = 48;     // RGB distance of an object from the background
constexpr float kEdgeContrast = 0.3F;  // of an outline, relative to the object; dark tones have 0.4
constexpr int64_t kMinPixels = 400;    // of an object; the smallest one rendered has 2,700
constexpr double kSizeBoundary = 0.15;  // radius between small (at most .125) and large (.18)
constexpr int kEdge = 3;                // pixels along the outline, used only for the shape
constexpr double kMinChroma = 24;       // of an object with a color; pink, the palest, has 150
constexpr double kMinOverlap = 0.75;    // with a template, of an object that has a shape
constexpr double kClearOverlap = 0.8;   // with a template; objects that touch have less

/// Sets size and position: the centroid, and the radius of the circle with the same area.
DetectedObject measured(const Region& region) {
  double x = 0, y = 0, area = 0;
  for (int64_t row = 0; row < region.mask.height; ++row)
    for (int64_t column = 0; column < region.mask.width; ++column)
      if (region.mask.at(row, column)) {
        x += static_cast<double>(region.left + column) + 0.5;
        y += static_cast<double>(region.top + row) + 0.5;
        area += 1;
      }
  DetectedObject object{.x = x / area / kSide,
                        .y = y / area / kSide,
                        .radius = std::sqrt(area / std::numbers::pi) / kSide};
  object.size = object.radius < kSizeBoundary ? ShapeSize::kSmall : ShapeSize::kLarge;
  return object;
}

/// The mask of a shape on a grid that spans kReach radii to each side of its centroid.
constexpr int64_t kGrid = 64;
constexpr double kReach = 1.7;  // no shape extends beyond 1.56 radii
using ShapeGrid = std::bitset<static_cast<size_t>(kGrid* kGrid)>;

template <class Inside>
ShapeGrid shape_grid(Inside&& inside) {
  ShapeGrid grid;
  const auto coordinate = [](int64_t i) { return ((i + 0.5) / kGrid * 2 - 1) * kReach; };
  for (int64_t row = 0; row < kGrid; ++row)
    for (int64_t column = 0; column < kGrid; ++column)
      grid[static_cast<size_t>(row * kGrid + column)] = inside(coordinate(column), coordinate(row));
  return grid;
}

struct ShapeFit {
  ShapeKind shape = ShapeKind::kCircle;
  double overlap = -1;  ///< intersection over union with the shape's template
};

/// The shape whose template, with the same centroid and area, overlaps most with the region.
ShapeFit fit_shape(const Region& region) {
  static const std::vector<ShapeGrid> templates = [] {
    std::vector<ShapeGrid> grids;
    for (const auto& [shape, name] : enum_names(ShapeKind{}))
      grids.push_back(
          shape_grid([s = shape](double x, double y) { return shape_distance(s, x, y) < 0; }));
    return grids;
  }();
  const DetectedObject object = measured(region);
  const ShapeGrid grid = shape_grid([&](double x, double y) {
    const double column = (object.x + x * object.radius) * kSide - static_cast<double>(region.left);
    const double row = (object.y + y * object.radius) * kSide - static_cast<double>(region.top);
    return column >= 0 && row >= 0 &&
           region.mask.at(static_cast<int64_t>(row), static_cast<int64_t>(column));
  });
  ShapeFit best;
  for (const auto& [shape, name] : enum_names(ShapeKind{})) {
    const ShapeGrid& other = templates[static_cast<size_t>(shape)];
    const double overlap = static_cast<double>((grid & other).count()) /
                           static_cast<double>(std::max<size_t>((grid | other).count(), 1));
    if (overlap > best.overlap) best = {.shape = shape, .overlap = overlap};
  }
  return best;
}

/// Degrees in [0, 360); 0 for gray.
double hue_of(double red, double green, double blue) {
  const double high = std::max({red, green, blue}), chroma = high - std::min({red, green, blue});
  if (chroma <= 0) return 0;
  double sextant = 0;
  if (high == red)
    sextant = (green - blue) / chroma;
  else if (high == green)
    sextant = (blue - red) / chroma + 2;
  else
    sextant = (red - green) / chroma + 4;
  return sextant < 0 ? 60 * sextant + 360 : 60 * sextant;
}

/// The color whose hue is nearest to that of most pixels, if they have one. Pixels vote with their
/// chroma, the difference between their largest and smallest channel, because the hue of a gray or
/// dark pixel is noise.
std::optional<ShapeColor> likeliest_color(const ColorPlanes& image,
                                          std::span<const int32_t> pixels) {
  static const std::array<ShapeColor, 360> color_of_hue = [] {
    std::array<ShapeColor, 360> colors{};
    for (size_t hue = 0; hue < colors.size(); ++hue) {
      double nearest = 360;
      for (const auto& [color, name] : enum_names(ShapeColor{})) {
        const ShapeRgb rgb = rgb_of(color);
        const double away =
            std::abs(static_cast<double>(hue) + 0.5 - hue_of(rgb.red, rgb.green, rgb.blue));
        if (const double distance = std::min(away, 360 - away); distance < nearest) {
          nearest = distance;
          colors[hue] = color;
        }
      }
    }
    return colors;
  }();
  std::array<double, enum_names(ShapeColor{}).size()> votes{};
  for (const int32_t pixel : pixels) {
    const auto at = static_cast<size_t>(pixel);
    const double red = image.planes[0][at], green = image.planes[1][at], blue = image.planes[2][at];
    const auto hue = static_cast<size_t>(hue_of(red, green, blue)) % 360;
    votes[static_cast<size_t>(color_of_hue[hue])] +=
        std::max({red, green, blue}) - std::min({red, green, blue});
  }
  const double chroma = std::accumulate(votes.begin(), votes.end(), 0.0);
  if (chroma < kMinChroma * static_cast<double>(pixels.size())) return std::nullopt;
  return static_cast<ShapeColor>(std::ranges::max_element(votes) - votes.begin());
}

/// Textures are compared over one period, divided into cells.
constexpr int64_t kCells = 16;
constexpr double kPeriod = kTexturePeriod * kSide;  // in pixels
using PeriodCells = std::array<double, static_cast<size_t>(kCells* kCells)>;

/// The tones of an object's pixels, summed over the cells into which they fall. A tone is the
/// projection onto the object's color: 1 for the first tone and 0.4 for the second one.
struct FoldedTones {
  PeriodCells counts{};
  PeriodCells sums{};
  double count = 0, sum = 0, sum_of_squares = 0;
};

FoldedTones fold_tones(const ColorPlanes& image, std::span<const int32_t> pixels,
                       ShapeColor color) {
  static const auto cell_of = [] {
    std::array<size_t, static_cast<size_t>(kSide)> cells{};
    for (size_t i = 0; i < cells.size(); ++i)
      cells[i] = static_cast<size_t>(std::fmod(static_cast<double>(i), kPeriod) / kPeriod * kCells);
    return cells;
  }();
  const ShapeRgb rgb = rgb_of(color);
  const double norm = rgb.red * rgb.red + rgb.green * rgb.green + rgb.blue * rgb.blue;
  FoldedTones folded;
  for (const int32_t pixel : pixels) {
    const auto at = static_cast<size_t>(pixel);
    const double tone = (rgb.red * image.planes[0][at] + rgb.green * image.planes[1][at] +
                         rgb.blue * image.planes[2][at]) /
                        norm;
    const size_t cell = cell_of[at / kSide] * kCells + cell_of[at % kSide];
    folded.counts[cell] += 1;
    folded.sums[cell] += tone;
    folded.count += 1;
    folded.sum += tone;
    folded.sum_of_squares += tone * tone;
  }
  return folded;
}

/// How well a pattern of the darker second tone explains the tones.
struct PatternFit {
  double correlation = 0;  ///< of darkness and pattern, in [-1, 1]
  double amplitude = 0;    ///< difference between the tones, as a fraction of their mean
};

PatternFit fit_pattern(const FoldedTones& folded, const PeriodCells& pattern, int64_t down,
                       int64_t right) {
  double sum = 0, squares = 0, product = 0;
  for (int64_t row = 0; row < kCells; ++row)
    for (int64_t column = 0; column < kCells; ++column) {
      const auto cell = static_cast<size_t>(row * kCells + column);
      const double share =
          pattern[static_cast<size_t>((row + down) % kCells * kCells + (column + right) % kCells)];
      sum += folded.counts[cell] * share;
      squares += folded.counts[cell] * share * share;
      product += folded.sums[cell] * share;
    }
  const double n = folded.count;
  const double covariance = product / n - sum / n * (folded.sum / n);
  const double pattern_variance = squares / n - sum / n * (sum / n);
  const double variance = folded.sum_of_squares / n - folded.sum / n * (folded.sum / n);
  if (pattern_variance <= 1e-9 || variance <= 1e-9) return {};
  return {.correlation = -covariance / std::sqrt(variance * pattern_variance),
          .amplitude = -covariance / pattern_variance / std::max(folded.sum / n, 0.01)};
}

/// The texture whose pattern, at its best phase, correlates most with the darkness of the pixels.
ShapeTexture likeliest_texture(const ColorPlanes& image, std::span<const int32_t> pixels,
                               ShapeColor color) {
  constexpr double kMinCorrelation = 0.45, kMinAmplitude = 0.13;
  constexpr int kPhaseStep = 2;
  static const std::vector<PeriodCells> patterns = [] {
    std::vector<PeriodCells> all;
    for (const auto& [texture, name] : enum_names(ShapeTexture{})) {
      PeriodCells& pattern = all.emplace_back();
      for (int64_t row = 0; row < kCells; ++row)
        for (int64_t column = 0; column < kCells; ++column)
          pattern[static_cast<size_t>(row * kCells + column)] = second_tone(
              texture, (column + 0.5) / kCells * kPeriod, (row + 0.5) / kCells * kPeriod, kPeriod);
    }
    return all;
  }();
  if (pixels.empty()) return ShapeTexture::kSolid;
  const FoldedTones folded = fold_tones(image, pixels, color);
  ShapeTexture best = ShapeTexture::kSolid;
  double best_correlation = kMinCorrelation;
  for (const auto& [texture, name] : enum_names(ShapeTexture{})) {
    if (texture == ShapeTexture::kSolid) continue;
    const PeriodCells& pattern = patterns[static_cast<size_t>(texture)];
    for (int64_t down = 0; down < (texture == ShapeTexture::kStriped ? 1 : kCells);
         down += kPhaseStep)
      for (int64_t right = 0; right < kCells; right += kPhaseStep) {
        const PatternFit fit = fit_pattern(folded, pattern, down, right);
        if (fit.correlation <= best_correlation || fit.amplitude < kMinAmplitude) continue;
        best = texture;
        best_correlation = fit.correlation;
      }
  }
  return best;
}

/// The median of each channel along the border.
std::array<float, 3> border_color(const ColorPlanes& image) {
  std::array<float, 3> color{};
  for (size_t channel = 0; channel < 3; ++channel) {
    std::vector<float> values;
    for (int64_t line = 0; line < kSide; ++line)
      for (int64_t depth = 0; depth < kBorder; ++depth) {
        const int64_t opposite = kSide - 1 - depth;
        for (const int64_t at : {line * kSide + depth, line * kSide + opposite,
                                 depth * kSide + line, opposite * kSide + line})
          values.push_back(image.planes[channel][static_cast<size_t>(at)]);
      }
    const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    color[channel] = *middle;
  }
  return color;
}

std::optional<ShapeBackground> likeliest_background(const std::array<float, 3>& color) {
  constexpr double kLargestChroma = 64;
  const auto [low, high] = std::ranges::minmax(color);
  if (high - low > kLargestChroma) return std::nullopt;
  const double level = (color[0] + color[1] + color[2]) / 3;
  const auto away = [&](const auto& entry) { return std::abs(level - gray_of(entry.first)); };
  return std::ranges::min(enum_names(ShapeBackground{}), {}, away).first;
}

/// The RGB distance of each pixel from a color.
std::vector<float> distances(const ColorPlanes& image, const std::array<float, 3>& color) {
  std::vector<float> result(static_cast<size_t>(kSide * kSide));
  for (size_t channel = 0; channel < 3; ++channel)
    for (size_t i = 0; i < result.size(); ++i) {
      const float difference = image.planes[channel][i] - color[channel];
      result[i] += difference * difference;
    }
  for (float& value : result) value = std::sqrt(value);
  return result;
}

PixelMask empty_mask() {
  return {.height = kSide,
          .width = kSide,
          .pixels = std::vector<uint8_t>(static_cast<size_t>(kSide * kSide))};
}

/// Removes single pixels and fills single holes of a mask of the image.
PixelMask smoothed(const PixelMask& mask) {
  return dilate(erode(erode(dilate(mask))));
}

/// The indices in the image of a region's pixels.
std::vector<int32_t> pixels_of(const Region& region) {
  std::vector<int32_t> pixels;
  for (int64_t row = 0; row < region.mask.height; ++row)
    for (int64_t column = 0; column < region.mask.width; ++column)
      if (region.mask.at(row, column))
        pixels.push_back(static_cast<int32_t>((region.top + row) * kSide + region.left + column));
  return pixels;
}

/// The part of a region within the outline of its object, as a mask of the whole image. Colors mix
/// between object and background, and how far out they still differ from the background depends on
/// the object's contrast.
PixelMask within_outline(const Region& region, std::span<const float> contrast) {
  const std::vector<int32_t> pixels = pixels_of(region);
  std::vector<float> values;
  for (const int32_t pixel : pixels) values.push_back(contrast[static_cast<size_t>(pixel)]);
  const auto high = values.begin() + static_cast<int64_t>(values.size() * 9 / 10);
  std::ranges::nth_element(values, high);
  const float threshold = std::max(kMinContrast, kEdgeContrast * *high);
  PixelMask inside = empty_mask();
  for (const int32_t pixel : pixels)
    inside.pixels[static_cast<size_t>(pixel)] = contrast[static_cast<size_t>(pixel)] > threshold;
  return smoothed(inside);
}

/// Appends the objects of a region: one, or several that touch.
void append_objects(const Region& region, std::vector<Region>& objects) {
  const double overlap = fit_shape(region).overlap;
  const std::vector<Region> parts =
      overlap < kClearOverlap ? split_region(region, kMinPixels) : std::vector<Region>{};
  const auto is_clearer = [&](const Region& part) { return fit_shape(part).overlap > overlap; };
  if (parts.empty() || !std::ranges::all_of(parts, is_clearer)) {
    objects.push_back(region);
    return;
  }
  for (const Region& part : parts) append_objects(part, objects);
}

std::vector<Region> find_objects(const ColorPlanes& image, const std::array<float, 3>& background) {
  const std::vector<float> contrast = distances(image, background);
  PixelMask mask = empty_mask();
  std::ranges::transform(contrast, mask.pixels.begin(),
                         [](float value) { return value > kMinContrast; });
  std::vector<Region> objects;
  for (const Region& region : connected_regions(smoothed(mask), kMinPixels))
    for (const Region& part : connected_regions(within_outline(region, contrast), kMinPixels))
      append_objects(part, objects);
  return objects;
}

/// The indices in the image of a region's pixels that are at least `margin` pixels from its
/// outline; of all its pixels if none is.
std::vector<int32_t> inner_pixels(const Region& region, int margin) {
  Region inner = region;
  for (int i = 0; i < margin; ++i) inner.mask = erode(inner.mask);
  const std::vector<int32_t> pixels = pixels_of(inner);
  return pixels.empty() ? pixels_of(region) : pixels;
}

DetectedObject judge_object(const ColorPlanes& image, const Region& region) {
  DetectedObject object = measured(region);
  const std::vector<int32_t> pixels = inner_pixels(region, kEdge);
  const ShapeFit fit = fit_shape(region);
  if (fit.overlap >= kMinOverlap) object.shape = fit.shape;
  object.color = likeliest_color(image, pixels);
  if (object.color) object.texture = likeliest_texture(image, pixels, *object.color);
  return object;
}

}  // namespace

DetectedScene detect_shapes(const RgbImage& image) {
  DALLE_CHECK(image.width == image.height);
  const ColorPlanes planes = resize_bicubic(image, kSide);
  const std::array<float, 3> border = border_color(planes);
  DetectedScene scene{.objects = {}, .background = likeliest_background(border)};
  for (const Region& region : find_objects(planes, border))
    scene.objects.push_back(judge_object(planes, region));
  std::ranges::stable_sort(scene.objects, std::ranges::greater{}, &DetectedObject::radius);
  return scene;
}

ShapesRelation relation_of(const DetectedObject& first, const DetectedObject& second) {
  const double dx = second.x - first.x, dy = second.y - first.y;
  if (std::abs(dx) >= std::abs(dy)) return dx >= 0 ? ShapesRelation::kLeft : ShapesRelation::kRight;
  return dy >= 0 ? ShapesRelation::kAbove : ShapesRelation::kBelow;
}

}  // namespace dalle
