#include "report/charts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "core/error.h"
#include "report/html.h"

namespace dalle {
namespace {

constexpr double kWidth = 340;  ///< of all charts, in the units in which a letter is 11 high
constexpr size_t kColors = 4;   ///< of the style sheet

struct AxisRange {
  double low = 0;
  double high = 1;

  double share(double value) const { return (value - low) / (high - low); }
};

/// Rounds up to 1, 2 or 5 times a power of ten.
double nice_step(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (step <= factor * power * (1 + 1e-9)) return factor * power;
  return 10 * power;
}

/// About `count` round numbers in the range.
std::vector<double> ticks_of(const AxisRange& range, int count) {
  const double step = nice_step((range.high - range.low) / count);
  const double first = std::ceil(range.low / step - 1e-9) * step;
  std::vector<double> ticks;
  for (int i = 0; i <= 2 * count; ++i) {
    const double tick = first + i * step;
    if (tick > range.high + 1e-9 * step) break;
    ticks.push_back(std::abs(tick) < 1e-9 * step ? 0 : tick);
  }
  return ticks;
}

/// The decades in a range of logarithms, at most six; the ends of a range with less than two.
std::vector<double> decades_of(const AxisRange& range) {
  if (std::floor(range.high + 1e-9) - std::ceil(range.low - 1e-9) < 1)
    return {range.low, range.high};
  const double step = std::ceil((range.high - range.low) / 6);
  std::vector<double> ticks;
  for (double tick = std::ceil(range.low - 1e-9); tick <= range.high + 1e-9; tick += step)
    ticks.push_back(tick);
  return ticks;
}

/// The points that can be shown, with the logarithm of y on a logarithmic scale.
std::vector<ChartSeries> shown_series(std::span<const ChartSeries> series, ChartScale scale) {
  std::vector<ChartSeries> shown;
  for (const ChartSeries& one : series) {
    ChartSeries& kept = shown.emplace_back(ChartSeries{.name = one.name, .points = {}});
    for (ChartPoint point : one.points) {
      if (scale == ChartScale::kLogarithmic) point.y = point.y > 0 ? std::log10(point.y) : NAN;
      if (std::isfinite(point.x) && std::isfinite(point.y)) kept.points.push_back(point);
    }
  }
  return shown;
}

/// Widens a range by a share of its size; an empty one so that its value is in the middle.
AxisRange padded(AxisRange range, double share) {
  const double size = range.high - range.low, magnitude = std::abs(range.low);
  // Less than that is rounding.
  const double pad = size > 1e-9 * magnitude ? share * size : std::max(magnitude * 0.1, 1e-9);
  return {.low = range.low - pad, .high = range.high + pad};
}

/// The range of all points, including those that a logarithmic scale omits.
AxisRange x_range(std::span<const ChartSeries> series) {
  AxisRange range{.low = std::numeric_limits<double>::infinity(),
                  .high = -std::numeric_limits<double>::infinity()};
  for (const ChartSeries& one : series)
    for (const ChartPoint& point : one.points)
      if (std::isfinite(point.x))
        range = {.low = std::min(range.low, point.x), .high = std::max(range.high, point.x)};
  return range.high > range.low ? range : padded(range, 0);
}

AxisRange y_range(std::span<const ChartSeries> series) {
  constexpr size_t kLong = 50;
  AxisRange range{.low = std::numeric_limits<double>::infinity(),
                  .high = -std::numeric_limits<double>::infinity()};
  for (const ChartSeries& one : series) {
    if (one.points.empty()) continue;
    std::vector<double> values;
    for (const ChartPoint& point : one.points) values.push_back(point.y);
    std::ranges::sort(values);
    const size_t left_out = values.size() >= kLong ? values.size() / kLong : 0;
    range = {.low = std::min(range.low, values[left_out]),
             .high = std::max(range.high, values[values.size() - 1 - left_out])};
  }
  return padded(range, 0.06);
}

/// The area of a chart inside its axes.
struct Plot {
  double left, top, right, bottom;
  AxisRange x, y;

  double across(double value) const { return left + (right - left) * x.share(value); }
  double down(double value) const {
    return std::clamp(bottom - (bottom - top) * y.share(value), top, bottom);
  }
};

std::string line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  return fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>",
                     css_class, x1, y1, x2, y2);
}

std::string text(double x, double y, std::string_view content, std::string_view css_class) {
  return fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", css_class, x, y,
                     html_text(content));
}

std::string svg(double height, std::string_view content) {
  return fmt::format("<svg viewBox=\"0 0 {} {:.0f}\" role=\"img\">{}</svg>\n", kWidth, height,
                     content);
}

std::string axes(const Plot& plot, std::string_view x_name, ChartScale y_scale) {
  std::string drawn;
  const bool is_log = y_scale == ChartScale::kLogarithmic;
  for (const double tick : is_log ? decades_of(plot.y) : ticks_of(plot.y, 4)) {
    const double y = plot.down(tick);
    drawn += line(plot.left, y, plot.right, y, "rule");
    drawn += text(plot.left - 6, y + 4, chart_number(is_log ? std::pow(10, tick) : tick), "end");
  }
  drawn += line(plot.left, plot.bottom, plot.right, plot.bottom, "axis");
  for (const double tick : ticks_of(plot.x, 4)) {
    const double x = plot.across(tick);
    drawn += line(x, plot.bottom, x, plot.bottom + 3, "axis");
    drawn += text(x, plot.bottom + 15, chart_number(tick), "middle");
  }
  return drawn + text(plot.right, plot.bottom + 29, x_name, "end");
}

std::string legend(std::span<const ChartSeries> series, double left) {
  constexpr double kLetter = 6.2, kSwatch = 14;  // widths, estimated
  std::string drawn;
  for (size_t i = 0; i < series.size(); ++i) {
    drawn += fmt::format(
        "<line class=\"line series-{}\" x1=\"{:.1f}\" y1=\"6\" "
        "x2=\"{:.1f}\" y2=\"6\"/>",
        i % kColors, left, left + kSwatch);
    drawn += text(left + kSwatch + 4, 10, series[i].name, "label");
    left += kSwatch + 18 + kLetter * static_cast<double>(series[i].name.size());
  }
  return drawn;
}

std::string curve(const ChartSeries& series, const Plot& plot, size_t color) {
  constexpr size_t kMaxDots = 40;
  std::string points, dots;
  for (const ChartPoint& point : series.points) {
    const double x = plot.across(point.x), y = plot.down(point.y);
    points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", x, y);
    if (series.points.size() <= kMaxDots)
      dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2\"/>", x, y);
  }
  return fmt::format(
      "<polyline class=\"line series-{0}\" points=\"{1}\"/><g class=\"dots series-{0}\">{2}</g>",
      color, points, dots);
}

}  // namespace

std::string chart_number(double value) {
  if (!std::isfinite(value)) return "-";
  if (value != 0 && std::abs(value) < 1e-3) return fmt::format("{:.3g}", value);
  std::string digits =
      std::abs(value) >= 1e4 ? fmt::format("{:.0f}", value) : fmt::format("{:.5g}", value);
  const size_t whole = std::min(digits.find('.'), digits.size());
  for (size_t i = whole; i > (value < 0 ? 4U : 3U); i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string line_chart(std::span<const ChartSeries> series, std::string_view x_name,
                       ChartScale y_scale) {
  constexpr double kHeight = 210;
  const std::vector<ChartSeries> shown = shown_series(series, y_scale);
  if (std::ranges::all_of(shown, [](const auto& one) { return one.points.empty(); }))
    return svg(kHeight, text(kWidth / 2, kHeight / 2, "no values", "middle"));
  const Plot plot{.left = 50,
                  .top = series.size() > 1 ? 22.0 : 8.0,
                  .right = kWidth - 8,
                  .bottom = kHeight - 34,
                  .x = x_range(series),
                  .y = y_range(shown)};
  std::string drawn = axes(plot, x_name, y_scale);
  for (size_t i = 0; i < shown.size(); ++i) drawn += curve(shown[i], plot, i % kColors);
  if (series.size() > 1) drawn += legend(shown, plot.left);
  return svg(kHeight, drawn);
}

std::string heat_map(std::span<const double> values, int64_t columns) {
  DALLE_CHECK(!values.empty() && columns > 0 && values.size() % static_cast<size_t>(columns) == 0);
  const auto width = static_cast<size_t>(columns), rows = values.size() / width;
  const double cell = kWidth / static_cast<double>(columns);
  const double height = cell * static_cast<double>(rows);
  const double low = std::ranges::min(values), high = std::ranges::max(values);
  const auto opacity = [&](double value) {
    return high > low ? (value - low) / (high - low) : 0.5;
  };
  std::string drawn;
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / width, column = i % width;
    drawn += fmt::format(
        "<rect class=\"cell\" x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" "
        "fill-opacity=\"{:.3f}\"><title>row {}, column {}: {}</title></rect>",
        cell * static_cast<double>(column), cell * static_cast<double>(row), cell, cell,
        opacity(values[i]), row + 1, column + 1, chart_number(values[i]));
  }
  drawn += fmt::format("<rect class=\"frame\" width=\"{}\" height=\"{:.2f}\"/>", kWidth, height);
  constexpr int kShades = 24;
  constexpr double kShade = 5, kLegend = kShades * kShade;
  const double left = (kWidth - kLegend) / 2, top = height + 12;
  for (int i = 0; i < kShades; ++i)
    drawn += fmt::format(
        "<rect class=\"cell\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"9\" "
        "fill-opacity=\"{:.3f}\"/>",
        left + i * kShade, top, kShade, i / (kShades - 1.0));
  drawn += text(left - 6, top + 9, fmt::format("{:.3g}", low), "end");
  drawn += text(left + kLegend + 6, top + 9, fmt::format("{:.3g}", high), "");
  return svg(height + 24, drawn);
}

std::string bar_chart(std::span<const ChartBar> bars) {
  constexpr double kRow = 24, kBar = 12;
  size_t longest = 0;
  for (const ChartBar& bar : bars) longest = std::max(longest, bar.name.size());
  const double rows = kRow * static_cast<double>(bars.size());
  const Plot plot{.left = std::min(6.3 * static_cast<double>(longest) + 10, kWidth / 2),
                  .top = 4,
                  .right = kWidth - 52,
                  .bottom = 4 + rows,
                  .x = {.low = 0, .high = 1},
                  .y = {}};
  std::string drawn;
  for (const double tick : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const double x = plot.across(tick);
    drawn += line(x, plot.top, x, plot.bottom, tick == 0 ? "axis" : "rule");
    drawn += text(x, plot.bottom + 14, fmt::format("{:.0f} %", 100 * tick), "middle");
  }
  double middle = plot.top + kRow / 2;
  for (const ChartBar& bar : bars) {
    drawn += text(plot.left - 6, middle + 4, bar.name, "label end");
    drawn += fmt::format(
        "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\"/>", plot.left,
        middle - kBar / 2, plot.across(bar.value) - plot.left, kBar);
    drawn += line(plot.across(bar.low), middle, plot.across(bar.high), middle, "whisker");
    if (bar.reference) {
      const double x = plot.across(*bar.reference);
      drawn += line(x, middle - kBar / 2 - 2, x, middle + kBar / 2 + 2, "reference");
    }
    drawn += text(plot.right + 8, middle + 4, fmt::format("{:.1f} %", 100 * bar.value), "label");
    middle += kRow;
  }
  return svg(plot.bottom + 20, drawn);
}

}  // namespace dalle
