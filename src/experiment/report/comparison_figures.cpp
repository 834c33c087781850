#include "experiment/report/comparison_figures.h"

#include <map>
#include <utility>

#include <fmt/format.h>

#include "core/files.h"
#include "report/charts.h"
#include "report/html.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// @param space  of the features
std::string neighborhood_chart(const ordered_json& numbers, const std::string& space) {
  std::vector<ChartBar> bars;
  for (const std::string name : {"precision", "recall", "coverage"}) {
    const std::string key = space + "_" + name;
    if (!numbers.contains(key)) continue;
    const ordered_json& share = numbers.at(key);
    bars.push_back({.name = name,
                    .value = share.at("value"),
                    .low = share.at("low"),
                    .high = share.at("high"),
                    .reference = {}});
    if (numbers.contains(key + "_training"))
      bars.back().reference = numbers.at(key + "_training").at("value").get<double>();
  }
  if (bars.empty()) return "";
  return html_figure(bar_chart(bars),
                     fmt::format("{}: generated images compared with validation images, with 95 % "
                                 "confidence intervals. The mark is the same for training images.",
                                 space));
}

std::string blur_chart(const ordered_json& blur, const std::string& space) {
  std::map<std::string, ChartSeries> series = {{"generated", {"generated", {}}},
                                               {"training", {"training images", {}}}};
  for (const ordered_json& one : blur)
    for (auto& [key, line] : series)
      if (one.at("space") == space && one.contains(key))
        line.points.push_back({one.at("radius"), one.at(key)});
  std::vector<ChartSeries> lines;
  for (auto& [key, line] : series)
    if (!line.points.empty()) lines.push_back(std::move(line));
  if (lines.empty()) return "";
  return html_figure(line_chart(lines, "blur radius, pixels"),
                     fmt::format("{}: Fréchet distance from the validation images after a Gaussian "
                                 "blur of both sides.",
                                 space));
}

}  // namespace

std::string stored_image(const fs::path& folder, const ordered_json& file, std::string_view text) {
  const fs::path path = folder / fs::path(file.get<std::string>()).filename();
  if (!fs::exists(path)) return html_paragraph("image not found", "note");
  return html_image(read_file(path), text);
}

std::string charts_of(std::vector<std::string> figures) {
  std::erase(figures, "");
  return figures.empty() ? "" : html_grid(figures, "charts");
}

SuiteFigures frechet_figures(const ordered_json& numbers) {
  std::vector<std::string> charts;
  for (const auto& [space, dimensions] : numbers.at("dimensions").items()) {
    charts.push_back(neighborhood_chart(numbers, space));
    charts.push_back(blur_chart(numbers.at("blur"), space));
  }
  std::string notes;
  for (const ordered_json& note : numbers.at("notes"))
    notes += html_paragraph(note.get<std::string>(), "note");
  return {"Distances from validation images", notes + charts_of(std::move(charts)), ""};
}

SuiteFigures memorization_figures(const ordered_json& numbers, const fs::path& folder) {
  std::vector<std::string> pairs;
  for (const ordered_json& one : numbers.at("closest"))
    pairs.push_back(html_figure(
        stored_image(folder, one.at("generated"), "generated image") +
            stored_image(folder, one.at("training"), "training image"),
        fmt::format("{}: {} from {}; {}", one.at("space").get<std::string>(),
                    chart_number(one.at("distance").get<double>()),
                    one.at("key").get<std::string>(), one.at("caption").get<std::string>())));
  return {"Memorization and diversity", "",
          "<h3>Closest pairs</h3>\n" +
              html_paragraph("Left: generated image. Right: the training image that is nearest to "
                             "it. The smallest distances of each space.",
                             "note") +
              html_grid(pairs, "pairs")};
}

}  // namespace dalle
