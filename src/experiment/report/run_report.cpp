#include "experiment/report/run_report.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "core/build_info.h"
#include "core/error.h"
#include "core/files.h"
#include "core/shell_word.h"
#include "experiment/config/stages.h"
#include "experiment/report/comparison_figures.h"
#include "experiment/report/evaluation_numbers.h"
#include "experiment/report/run_samples.h"
#include "experiment/report/training_curves.h"
#include "report/charts.h"
#include "report/html.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

bool is_number(const ordered_json& metric) {
  return metric.is_object() && metric.contains("value");
}

double value_of(const ordered_json& metric) {
  return metric.at("value").get<double>();
}

/// All numbers of a suite, with their intervals and definitions.
std::string numbers_table(const std::string& suite, const ordered_json& numbers) {
  const TableColumn columns[] = {
      {"number"}, {"value", true}, {"95 % confidence interval", true}, {"definition"}};
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, metric] : numbers.items()) {
    if (!is_number(metric)) continue;
    const EvaluationNumber number =
        describe_number(suite, name)
            .value_or(EvaluationNumber{.label = name, .unit = "", .definition = ""});
    const std::string interval = metric.contains("low")
                                     ? format_interval(metric.at("low").get<double>(),
                                                       metric.at("high").get<double>(), number.unit)
                                     : "";
    rows.push_back(
        {number.label, format_value(value_of(metric), number.unit), interval, number.definition});
  }
  return html_table(columns, rows);
}

/// A share of a suite, and what to compare it with.
struct ShownShare {
  std::string name;
  std::optional<double> reference;
};

/// Bars of those shares that the suite has; empty if it has none.
std::string shares_chart(const std::string& suite, const ordered_json& numbers,
                         std::span<const ShownShare> shares, std::string_view caption) {
  std::vector<ChartBar> bars;
  for (const auto& [name, reference] : shares)
    if (numbers.contains(name))
      bars.push_back({.name = describe_number(suite, name)->label,
                      .value = value_of(numbers.at(name)),
                      .low = numbers.at(name).value("low", value_of(numbers.at(name))),
                      .high = numbers.at(name).value("high", value_of(numbers.at(name))),
                      .reference = reference});
  return bars.empty() ? "" : html_figure(bar_chart(bars), caption);
}

std::string ranking_chart(const ordered_json& numbers) {
  if (!numbers.contains("first")) return "";
  const std::vector<ShownShare> shares = {{"first", value_of(numbers.at("first_by_chance"))},
                                          {"preferred_to_swapped", 0.5},
                                          {"preferred_to_shuffled", 0.5}};
  return shares_chart("ranking", numbers, shares,
                      "Share of images that the model assigns to their own caption, with 95 % "
                      "confidence intervals. The mark is chance.");
}

std::string judged_chart(const ordered_json& numbers) {
  std::vector<ShownShare> shares;
  for (const std::string name :
       {"exact", "count", "shape", "color", "size", "texture", "background", "relation"})
    if (const std::string ceiling = "ceiling_" + name; numbers.contains(ceiling))
      shares.push_back({name, value_of(numbers.at(ceiling))});
  return shares_chart(
      "shapes", numbers, shares,
      "Share of generated images that show what their caption says, with 95 % confidence "
      "intervals. The mark is the ceiling: the same for reconstructions.");
}

std::string levels_chart(const ordered_json& numbers) {
  std::vector<ShownShare> shares;
  for (const auto& [level, name] : enum_names(ShapesSplit{}))
    if (const std::string ceiling = fmt::format("{}_ceiling_exact", name);
        numbers.contains(ceiling))
      shares.push_back({fmt::format("{}_exact", name), value_of(numbers.at(ceiling))});
  return shares_chart(
      "levels", numbers, shares,
      "Share of generated images that show exactly what their caption says, by level of the "
      "benchmark, with 95 % confidence intervals. The mark is the ceiling.");
}

/// Accuracy by the number of atoms of the captions.
std::string atoms_chart(const ordered_json& numbers) {
  if (!numbers.contains("by_atoms") || numbers.at("by_atoms").size() < 2) return "";
  std::vector<ChartSeries> lines = {{"arithmetic mean", {}}, {"exact", {}}, {"ceiling", {}}};
  for (const ordered_json& group : numbers.at("by_atoms")) {
    const char* const names[] = {"arithmetic_mean", "geometric_mean", "ceiling_geometric_mean"};
    for (size_t i = 0; i < lines.size(); ++i)
      lines[i].points.push_back({group.at("atoms").get<double>(), value_of(group.at(names[i]))});
  }
  return html_figure(line_chart(lines, "atoms of the caption"),
                     "Share of correct atoms (stated values and the count of objects) and of exact "
                     "images, by the number of atoms of their caption. The ceiling is the share of "
                     "exact reconstructions.");
}

std::string completion_chart(const ordered_json& numbers) {
  if (!numbers.contains("ceiling_exact")) return "";
  const double ceiling = value_of(numbers.at("ceiling_exact"));
  const std::vector<ShownShare> shares = {
      {"exact", ceiling}, {"exact_without_prompt", ceiling}, {"intact", std::nullopt}};
  return shares_chart(
      "completion", numbers, shares,
      "Share of images that show exactly what their caption says if the upper half is given and if "
      "it is not, and of given halves that stay intact, with 95 % confidence intervals. The mark "
      "is the ceiling: the same for reconstructions.");
}

std::string best_of_chart(const ordered_json& numbers) {
  const bool has_scenes = numbers.contains("possible_of_1");
  std::vector<ShownShare> shares;
  for (const char* count : {"1", "4", "16", "64"})
    if (has_scenes)
      shares.push_back({fmt::format("exact_of_{}", count),
                        value_of(numbers.at(fmt::format("possible_of_{}", count)))});
    else
      shares.push_back({fmt::format("retrieved_of_{}", count), std::nullopt});
  return shares_chart(
      "best_of", numbers, shares,
      has_scenes
          ? "Share of captions whose most similar image shows exactly what they say, with 95 % "
            "confidence intervals. The mark is what a perfect ranking would reach."
          : "Share of captions whose top-ranked image is more similar to them than to any other "
            "caption, with 95 % confidence intervals.");
}

/// The values of a list by position as a map of the grid; empty if the suite has no such list.
std::string position_map(const ordered_json& numbers, const char* name, int64_t columns,
                         std::string_view caption) {
  if (!numbers.contains(name)) return "";
  return html_figure(heat_map(numbers.at(name).get<std::vector<double>>(), columns), caption);
}

std::string counts_chart(const ordered_json& numbers, int64_t codes) {
  if (!numbers.contains("counts_by_rank")) return "";
  const auto counts = numbers.at("counts_by_rank").get<std::vector<double>>();
  ChartSeries series{.name = "count", .points = {}};
  const double step = counts.size() < 2
                          ? 0
                          : static_cast<double>(codes - 1) / static_cast<double>(counts.size() - 1);
  for (size_t i = 0; i < counts.size(); ++i)
    series.points.push_back({1 + step * static_cast<double>(i), counts[i]});
  return html_figure(
      line_chart({&series, 1}, "code, most frequent first", ChartScale::kLogarithmic),
      "How often each code occurs. Unused codes are to the right of the line.");
}

std::string worst_reconstructions(const ordered_json& numbers, const fs::path& folder) {
  if (!numbers.contains("worst")) return "";
  std::vector<std::string> pairs;
  for (const ordered_json& one : numbers.at("worst"))
    pairs.push_back(html_figure(stored_image(folder, one.at("original"), "original") +
                                    stored_image(folder, one.at("reconstructed"), "reconstruction"),
                                fmt::format("image {}: {:.2f} dB", one.at("image").get<int64_t>(),
                                            one.at("psnr").get<double>())));
  return "<h3>Worst reconstructions</h3>\n" +
         html_paragraph("The lowest PSNR first. Left: original. Right: reconstruction.", "note") +
         html_grid(pairs, "pairs");
}

std::string judged_examples(const ordered_json& numbers, const fs::path& folder) {
  if (!numbers.contains("examples")) return "";
  std::vector<std::string> figures;
  for (const ordered_json& one : numbers.at("examples")) {
    const auto caption = one.at("caption").get<std::string>();
    const bool is_right = one.at("exact").get<bool>();
    const std::string verdict =
        is_right ? "right"
                 : fmt::format("wrong: {}",
                               fmt::join(one.at("wrong").get<std::vector<std::string>>(), ", "));
    figures.push_back(
        html_verdict(stored_image(folder, one.at("file"), caption), is_right, verdict, caption));
  }
  return "<h3>Generated images</h3>\n" +
         html_paragraph("Images of the first captions, whether right or wrong.", "note") +
         html_grid(figures, "images");
}

std::string errors_table(const ordered_json& numbers) {
  if (!numbers.contains("errors")) return "";
  const TableColumn columns[] = {{"errors"}, {"generated", true}, {"reconstructed", true}};
  const std::pair<const char*, const char*> names[] = {{"missing_objects", "missing objects"},
                                                       {"extra_objects", "extra objects"},
                                                       {"wrong_values", "wrong values"},
                                                       {"binding", "values on the wrong object"}};
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, label] : names)
    rows.push_back({label, chart_number(numbers.at("errors").at(name).get<double>()),
                    chart_number(numbers.at("ceiling_errors").at(name).get<double>())});
  return html_table(columns, rows);
}

/// The suite levels has a number of images for each level.
std::string images_line(const ordered_json& numbers) {
  if (!numbers.contains("images")) return "";
  const auto images = numbers.at("images").get<int64_t>();
  return html_paragraph(fmt::format("{} image{}", images, images == 1 ? "" : "s"), "note");
}

SuiteFigures figures_of(const std::string& suite, const ordered_json& numbers,
                        const ExperimentConfig& config, const fs::path& folder) {
  const int64_t columns = config.layout().grid_width;
  if (suite == "reconstruction")
    return {"Reconstructions", "", worst_reconstructions(numbers, folder)};
  if (suite == "codes")
    return {
        "Codes",
        charts_of({counts_chart(numbers, config.dvae.model.vocab_size),
                   position_map(numbers, "entropy_bits_by_position", columns,
                                "Entropy of the codes at each position of the grid, in bits.")}),
        ""};
  if (suite == "likelihood")
    return {"Likelihood",
            charts_of({position_map(
                numbers, "image_top1_by_position", columns,
                "Share of images whose token is the most likely one, by position of the grid.")}),
            ""};
  if (suite == "ranking") return {"Ranking of captions", charts_of({ranking_chart(numbers)}), ""};
  if (suite == "shapes")
    return {"Generated scenes", charts_of({judged_chart(numbers), atoms_chart(numbers)}),
            errors_table(numbers) + judged_examples(numbers, folder)};
  if (suite == "completion")
    return {"Completed scenes", charts_of({completion_chart(numbers)}),
            judged_examples(numbers, folder)};
  if (suite == "best_of")
    return {"Best of several images", charts_of({best_of_chart(numbers)}), ""};
  if (suite == "levels") return {"Levels of the benchmark", charts_of({levels_chart(numbers)}), ""};
  if (suite == "frechet") return frechet_figures(numbers);
  if (suite == "memorization") return memorization_figures(numbers, folder);
  return {suite, "", ""};
}

void add_suites(std::vector<ReportSection>& sections, const ordered_json& results,
                const ExperimentConfig& config, const fs::path& folder) {
  for (const auto& [suite, numbers] : results.at("suites").items()) {
    const SuiteFigures figures = figures_of(suite, numbers, config, folder);
    sections.push_back({figures.title, images_line(numbers) + figures.charts +
                                           numbers_table(suite, numbers) + figures.images});
  }
}

std::string samples_figure(const RunPaths& run, const std::string& stage,
                           const ExperimentConfig& config) {
  const std::vector<SampleFile> samples = samples_of(run, stage);
  const auto last = std::ranges::max_element(samples, {}, &SampleFile::step);
  if (last == samples.end()) return "";
  std::string caption = last->file;
  if (stage == to_string(Stage::kDvae)) caption += ": validation images and reconstructions";
  if (stage == to_string(Stage::kClip))
    caption += ": validation images, each followed by those most similar to its caption";
  if (stage == to_string(Stage::kDalle) && !config.sample.captions.empty())
    caption += fmt::format(": a row for each of {}", fmt::join(config.sample.captions, ", "));
  return "<h3>Last samples</h3>\n" +
         html_figure(html_image(read_file(run.samples() / stage / last->file), caption), caption,
                     "wide");
}

std::string final_numbers(const StageCurves& curves) {
  const TableColumn columns[] = {{"last value"}, {"", false}, {"step", true}, {"value", true}};
  std::vector<std::vector<std::string>> rows;
  for (const CurveGroup& group : curves.groups)
    for (const ChartSeries& series : group.series)
      rows.push_back({group.name, group.series.size() > 1 ? series.name : "",
                      chart_number(series.points.back().x), chart_number(series.points.back().y)});
  return html_table(columns, rows);
}

void add_curves(std::vector<ReportSection>& sections, const RunPaths& run,
                const ExperimentConfig& config) {
  for (const StageCurves& curves : read_training_curves(run.metrics())) {
    std::vector<std::string> charts;
    for (const CurveGroup& group : curves.groups)
      charts.push_back(html_figure(line_chart(group.series, "step"), group.name));
    sections.push_back({"Training: " + curves.stage, html_grid(charts, "charts") +
                                                         samples_figure(run, curves.stage, config) +
                                                         final_numbers(curves)});
  }
}

std::string data_line(const DataConfig& data) {
  const std::string source = data.kind == DatasetKind::kShapes ? "" : " " + data.path;
  return fmt::format("{}{}, {} x {} pixels", to_string(data.kind), source, data.image_size,
                     data.image_size);
}

std::string summary(const ordered_json& results, const ExperimentConfig& config,
                    const RunPaths& run) {
  std::vector<Fact> facts = {{"data", data_line(config.data)}};
  std::string commands;
  if (fs::exists(run.config()))
    commands +=
        fmt::format("dalle-train --config {} --run-dir {}\n", shell_word(run.config().string()),
                    shell_word(run.root.string() + "-again"));
  std::string lead = "Training of " + config.name;
  if (!results.is_null()) {
    const ordered_json& model = results.at("model");
    const auto fact = [&](const char* name, const char* key) {
      const ordered_json& value = model.at(key);
      facts.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
    };
    lead = fmt::format("Evaluation of {} at step {}", config.name, model.at("step").dump());
    fact("checkpoint", "checkpoint");
    fact("SHA-256 of its manifest", "manifest");
    fact("validation images", "validation_images");
    fact("evaluated by dalle", "dalle");
    commands += results.value("command", "");
  }
  facts.push_back({"report by", build_line()});
  return html_paragraph(lead, "lead") + html_facts(facts) +
         (commands.empty() ? "" : html_code(commands));
}

}  // namespace

fs::path report_of_results(const fs::path& results) {
  const fs::path stem = results.stem();
  return results.parent_path() / (stem == "evaluation" ? "report.html" : stem.string() + ".html");
}

fs::path images_of_results(const fs::path& results) {
  return results.parent_path() / (results.stem().string() + "_images");
}

ordered_json read_results(const fs::path& results) {
  if (!fs::exists(results)) return nullptr;
  ordered_json content = ordered_json::parse(read_file(results), nullptr,
                                             /*allow_exceptions=*/false);
  const auto has_object = [&](const char* key) {
    return content.is_object() && content.contains(key) && content.at(key).is_object();
  };
  if (!has_object("model") || !has_object("suites"))
    throw Error("{}: not a results file of dalle-eval; rename or remove it", results.string());
  return content;
}

void write_report(const ExperimentConfig& config, const RunPaths& run, const fs::path& results) {
  const ordered_json content = read_results(results);
  std::vector<ReportSection> sections;
  if (!content.is_null()) add_suites(sections, content, config, images_of_results(results));
  add_curves(sections, run, config);
  write_file_atomically(report_of_results(results),
                        html_page(config.name, summary(content, config, run), sections));
}

}  // namespace dalle
