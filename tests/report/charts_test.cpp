#include "report/charts.h"

#include <array>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

TEST(ChartNumberTest, IsForReaders) {
  EXPECT_EQ(chart_number(0), "0");
  EXPECT_EQ(chart_number(0.5), "0.5");
  EXPECT_EQ(chart_number(40.9123), "40.912");
  EXPECT_EQ(chart_number(-1234.5), "-1,234.5");
  EXPECT_EQ(chart_number(-123), "-123");
  EXPECT_EQ(chart_number(1234567), "1,234,567");
  EXPECT_EQ(chart_number(1.25e-5), "1.25e-05");
  EXPECT_EQ(chart_number(NAN), "-");
}

// The plot is from x = 50 to 332 and from y = 8 to 176; values are padded by 6 % of their range.
TEST(LineChartTest, PutsPointsToScale) {
  const ChartSeries series{.name = "loss", .points = {{0, 0}, {10, 1}, {20, 0.5}}};
  const std::string chart = line_chart({&series, 1}, "step");
  EXPECT_THAT(chart, HasSubstr("points=\"50.0,167.0 191.0,17.0 332.0,92.0\""));
  EXPECT_THAT(chart, HasSubstr(">step</text>"));
  EXPECT_THAT(chart, HasSubstr(">20</text>"));
  EXPECT_THAT(chart, Not(HasSubstr("loss"))) << "one series needs no legend";
}

TEST(LineChartTest, LogarithmicScalesShowDecadesAndOmitZero) {
  const ChartSeries series{.name = "count", .points = {{1, 1000}, {2, 10}, {3, 0}}};
  const std::string chart = line_chart({&series, 1}, "code", ChartScale::kLogarithmic);
  EXPECT_EQ(count(chart, "<circle"), 2U);
  EXPECT_THAT(chart, HasSubstr(">100</text>"));
  EXPECT_THAT(chart, HasSubstr(">3</text>")) << "the axis shows where the values are 0";
}

TEST(LineChartTest, ASpikeDoesNotFlattenTheRest) {
  ChartSeries series{.name = "loss", .points = {}};
  for (int i = 0; i < 100; ++i) series.points.push_back({static_cast<double>(i), i == 0 ? 1e6 : i});
  EXPECT_THAT(line_chart({&series, 1}, "step"), Not(HasSubstr("000")));
}

TEST(LineChartTest, NamesSeveralSeriesAndSkipsWhatIsNotFinite) {
  const std::array series = {ChartSeries{"training", {{1, 2}, {2, NAN}, {3, 1}}},
                             ChartSeries{"<validation>", {{1, INFINITY}}}};
  const std::string chart = line_chart(series, "step");
  EXPECT_THAT(chart, HasSubstr(">training</text>"));
  EXPECT_THAT(chart, HasSubstr(">&lt;validation&gt;</text>"));
  EXPECT_EQ(count(chart, "<circle"), 2U);
  EXPECT_THAT(chart, Not(HasSubstr("nan")));
  EXPECT_THAT(chart, Not(HasSubstr("inf")));
}

TEST(LineChartTest, DrawsConstantsAndNothing) {
  const ChartSeries constant{.name = "lr", .points = {{1, 0.1}}};
  EXPECT_THAT(line_chart({&constant, 1}, "step"), Not(HasSubstr("nan")));
  const ChartSeries empty{.name = "lr", .points = {}};
  EXPECT_THAT(line_chart({&empty, 1}, "step"), HasSubstr("no values"));
}

TEST(HeatMapTest, HasACellPerValueAndItsRange) {
  const std::array values = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0};
  const std::string map = heat_map(values, 3);
  EXPECT_EQ(count(map, "<title>"), 6U);
  EXPECT_THAT(map, HasSubstr("fill-opacity=\"0.800\"><title>row 2, column 2: 5</title>"));
  EXPECT_THAT(map, HasSubstr(">1</text>"));
  EXPECT_THAT(map, HasSubstr(">6</text>"));
  EXPECT_THAT(heat_map(std::array{2.0, 2.0}, 2), Not(HasSubstr("nan")));
}

// The axis ends at x = 288; where it begins depends on the longest name.
TEST(BarChartTest, ShowsValueIntervalAndReference) {
  const std::array bars = {ChartBar{"exact", 0.5, 0.25, 0.75, 1.0},
                           ChartBar{"count", 1.0, 0.9, 1.0, std::nullopt}};
  const std::string chart = bar_chart(bars);
  EXPECT_THAT(chart, HasSubstr(">50.0 %</text>"));
  EXPECT_EQ(count(chart, "class=\"whisker\""), 2U);
  EXPECT_EQ(count(chart, "class=\"reference\""), 1U);
  EXPECT_THAT(chart, HasSubstr("class=\"reference\" x1=\"288.0\""));
}

TEST(LineChartTest, ValuesThatDifferByRoundingHaveTicks) {
  const double next = std::nextafter(1.0, 2.0);
  const std::vector<ChartSeries> series = {{.name = "a", .points = {{1, 1.0}, {2, next}}}};
  EXPECT_LT(line_chart(series, "step").size(), 10'000u);
}

}  // namespace
}  // namespace dalle
