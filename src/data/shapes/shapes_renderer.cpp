#include "data/shapes/shapes_renderer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "data/shapes/shape_outline.h"

namespace dalle {
namespace {

/// 1 inside an edge, 0 outside, and in between within half a pixel of the edge.
double coverage(double distance_in_pixels) {
  return std::clamp(0.5 - distance_in_pixels, 0.0, 1.0);
}

}  // namespace

ShapeRgb rgb_of(ShapeColor color) {
  constexpr ShapeRgb kRgb[] = {{230, 20, 20}, {255, 140, 0}, {255, 230, 0}, {0, 170, 40},
                               {0, 210, 220}, {0, 60, 240},  {150, 0, 210}, {255, 105, 190}};
  return kRgb[static_cast<size_t>(color)];
}

double gray_of(ShapeBackground background) {
  constexpr double kGray[] = {255, 128, 0};
  return kGray[static_cast<size_t>(background)];
}

double second_tone(ShapeTexture texture, double x, double y, double period) {
  // The signed distance from the nearest edge of a stripe, negative inside.
  const auto stripe = [period](double t) {
    const double phase = t / period - std::floor(t / period);
    return (std::abs(phase - 0.5) - 0.25) * period;
  };
  switch (texture) {
    case ShapeTexture::kSolid:
      return 0;
    case ShapeTexture::kStriped:
      return coverage(stripe(x));
    case ShapeTexture::kCheckered: {
      const double a = coverage(stripe(x)), b = coverage(stripe(y));
      return a * (1 - b) + b * (1 - a);
    }
    case ShapeTexture::kDotted: {
      const auto centered = [period](double t) { return t - period * std::round(t / period); };
      return coverage(std::hypot(centered(x), centered(y)) - 0.3 * period);
    }
  }
  throw Error("unknown texture {}", static_cast<int>(texture));
}

RgbImage render_scene(const ShapesScene& scene, int64_t image_size) {
  constexpr double kSecondTone = 0.4;  // brightness relative to the first tone
  const auto size = static_cast<double>(image_size);
  RgbImage image{.width = image_size, .height = image_size, .pixels = {}};
  image.pixels.assign(static_cast<size_t>(image_size * image_size * 3),
                      static_cast<uint8_t>(gray_of(scene.background)));
  for (const ShapesObject& object : scene.objects) {
    const ShapeRgb rgb = rgb_of(object.color);
    const double cx = object.x * size, cy = object.y * size, radius = object.radius * size;
    const double reach = shape_reach(object.shape) * radius + 1;
    const auto first = [&](double center) {
      return std::max<int64_t>(0, static_cast<int64_t>(std::floor(center - reach)));
    };
    const auto last = [&](double center) {
      return std::min<int64_t>(image_size - 1, static_cast<int64_t>(std::ceil(center + reach)));
    };
    for (int64_t row = first(cy); row <= last(cy); ++row)
      for (int64_t column = first(cx); column <= last(cx); ++column) {
        const double x = static_cast<double>(column) + 0.5 - cx,
                     y = static_cast<double>(row) + 0.5 - cy;
        const double cover =
            coverage(shape_distance(object.shape, x / radius, y / radius) * radius);
        if (cover == 0) continue;
        const double tone =
            1 - (1 - kSecondTone) * second_tone(object.texture, x, y, kTexturePeriod * size);
        uint8_t* pixel = &image.pixels[static_cast<size_t>((row * image_size + column) * 3)];
        for (const double channel : {rgb.red, rgb.green, rgb.blue}) {
          *pixel = static_cast<uint8_t>(std::lround(*pixel + cover * (channel * tone - *pixel)));
          ++pixel;
        }
      }
  }
  return image;
}

}  // namespace dalle
