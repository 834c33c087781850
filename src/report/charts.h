#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

// Charts as inline SVG. The style sheet of the page, such as that of html_page(), gives their
// classes their colors, so they follow its light or dark scheme. They have no styles of their own,
// which a strict Content-Security-Policy refuses, and scale to the width that they are given.

/// A number for a reader: 5 significant digits, thousands separated, 1.2e-05 if it is very small.
std::string chart_number(double value);

struct ChartPoint {
  double x = 0;
  double y = 0;
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;  ///< by increasing x; values that are not finite are left out
};

enum class ChartScale { kLinear, kLogarithmic };  ///< a logarithmic one omits values up to 0

/// Lines over a common axis, with the names of the series above it if there are several. The y axis
/// shows at least 96 % of the values of a long series: a spike at the start would flatten the rest.
/// @param x_name  of the horizontal axis
std::string line_chart(std::span<const ChartSeries> series, std::string_view x_name,
                       ChartScale y_scale = ChartScale::kLinear);

/// Values at the positions of a grid, in raster order: the darker, the higher.
/// @param columns  divides the number of values
std::string heat_map(std::span<const double> values, int64_t columns);

/// A share in [0, 1].
struct ChartBar {
  std::string name;
  double value = 0;
  double low = 0;  ///< of its interval
  double high = 0;
  std::optional<double> reference;  ///< marked, e.g. what is possible
};

/// Horizontal bars from 0 to 100 % with their intervals.
std::string bar_chart(std::span<const ChartBar> bars);

}  // namespace dalle
