#include "experiment/trained/model_card.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/build_info.h"
#include "core/config/config_io.h"
#include "core/files.h"
#include "core/log.h"
#include "experiment/report/evaluation_numbers.h"
#include "experiment/report/run_report.h"
#include "metrics/metric_log.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// A number of the card's table.
struct CardNumber {
  std::string suite;
  std::string name;
  std::string label;
  double value = 0;
  std::string text;      ///< the value with its unit
  std::string interval;  ///< 95 %; empty: none
};

using Lines = std::vector<ordered_json>;

/// The validations of a stage, at most at `step`, in order.
Lines validations(const fs::path& metrics, std::string_view stage, int64_t step) {
  Lines lines;
  for_each_metric_line(metrics, [&](const ordered_json& line) {
    if (line.is_object() && line.value("stage", "") == stage && line.contains("validation") &&
        line.value("step", int64_t{0}) <= step)
      lines.push_back(line);
  });
  return lines;
}

/// What training measured on validation images: the line of each model in the checkpoint; null if
/// there is none.
struct Measured {
  ordered_json dvae, dalle;
};

Measured measured(const TrainedDalle& dalle, const RunPaths& run) {
  Measured found;
  const ExperimentConfig& config = dalle.config;
  if (Lines lines = validations(run.metrics(), "dalle", dalle.step); !lines.empty())
    found.dalle = lines.back();
  Lines lines = validations(run.metrics(), "dvae", config.dvae.train.steps);
  if (!config.trains_dvae() || lines.empty()) return found;
  const auto psnr = [](const ordered_json& line) {
    const auto value = line.find("psnr_hard");
    return value != line.end() && value->is_number() ? value->get<double>() : -1e9;
  };
  found.dvae = config.dalle.dvae_checkpoint == DvaeCheckpoint::kBest
                   ? *std::ranges::max_element(lines, {}, psnr)  // of equal ones the first
                   : lines.back();
  return found;
}

std::vector<CardNumber> training_numbers(const Measured& lines) {
  constexpr struct {
    const char *stage, *metric, *label, *unit;
  } kShown[] = {{"dvae", "psnr_hard", "dVAE, PSNR", "dB"},
                {"dvae", "codes_used", "dVAE, codes used", "%"},
                {"dalle", "validation", "transformer, validation loss", "nats"},
                {"dalle", "validation/text", "transformer, text", "nats per token"},
                {"dalle", "validation/image", "transformer, image", "nats per token"}};
  std::vector<CardNumber> numbers;
  for (const auto& [stage, metric, label, unit] : kShown) {
    const ordered_json& line = std::string_view(stage) == "dvae" ? lines.dvae : lines.dalle;
    if (!line.contains(metric) || !line.at(metric).is_number()) continue;
    const double value = line.at(metric);
    numbers.push_back({"training", metric, label, value, format_value(value, unit), ""});
  }
  return numbers;
}

/// What dalle-eval measured, if it measured this checkpoint.
std::vector<CardNumber> evaluation_numbers(const TrainedDalle& dalle, const RunPaths& run) {
  const ordered_json evaluation = read_results(run.evaluation());
  if (evaluation.is_null()) return {};
  if (evaluation.at("model").value("manifest", ordered_json()) != dalle.hash) {
    log_warning("{}: measures a different checkpoint, so the model card omits it",
                run.evaluation().string());
    return {};
  }
  const auto is_number = [](const ordered_json& metric, const char* key) {
    return metric.contains(key) && metric.at(key).is_number();
  };
  std::vector<CardNumber> numbers;
  for (const auto& [suite, metrics] : evaluation.at("suites").items())
    for (const auto& [name, metric] : metrics.items()) {
      const auto known = describe_number(suite, name);
      if (!known || !metric.is_object() || !is_number(metric, "value")) continue;
      const double value = metric.at("value");
      numbers.push_back({suite, name, suite + ", " + known->label, value,
                         format_value(value, known->unit),
                         is_number(metric, "low") && is_number(metric, "high")
                             ? format_interval(metric.at("low"), metric.at("high"), known->unit)
                             : ""});
    }
  return numbers;
}

std::string name_alone(const std::string& path) {
  return without_trailing_slash(fs::path(path).lexically_normal()).filename().string();
}

/// RUN/checkpoints/STAGE/step-N of such a checkpoint; the name alone of another path.
fs::path checkpoint_in_run(const std::string& path) {
  const fs::path step = fs::path(path).lexically_normal(), stage = step.parent_path();
  const fs::path folder = stage.parent_path(), run = folder.parent_path();
  if (folder.filename() != "checkpoints" || !run.has_filename()) return name_alone(path);
  return run.filename() / folder.filename() / stage.filename() / step.filename();
}

/// "RUN, step N".
std::string source_text(const std::string& path) {
  constexpr std::string_view kStep = "step-";
  const fs::path shown = checkpoint_in_run(path);
  const std::string step = shown.filename().string();
  if (!shown.has_parent_path() || !step.starts_with(kStep)) return shown.string();
  const size_t digits = std::min(step.find_first_not_of('0', kStep.size()), step.size() - 1);
  return fmt::format("{}, step {}", shown.begin()->string(), step.substr(digits));
}

/// A card is public: the config without the folders of this machine.
ExperimentConfig without_folders(ExperimentConfig config) {
  for (std::string* path : {&config.data.path, &config.data.validation_path,
                            &config.data.index_cache, &config.tokenizer.model})
    *path = name_alone(*path);
  for (std::string* path :
       {&config.dvae.checkpoint, &config.from.checkpoint, &config.from.clip_checkpoint})
    *path = checkpoint_in_run(*path).string();
  return config;
}

std::string data_text(const DataConfig& data) {
  return data.kind == DatasetKind::kShapes
             ? "the built-in scenes of colored shapes"
             : fmt::format("{} {}", to_string(data.kind), name_alone(data.path));
}

ConfigValue yaml_text(std::string value) {
  return {std::move(value)};
}

ConfigValue yaml_map(ConfigValue::Map entries) {
  return {std::move(entries)};
}

/// The front matter that the hub reads.
/// Source: https://huggingface.co/docs/hub/model-cards
std::string front_matter(const TrainedDalle& dalle, const std::vector<CardNumber>& numbers) {
  const ExperimentConfig& config = dalle.config;
  ConfigValue::Map card{
      {"license", yaml_text("other")},  // for the user to replace
      {"license_name", yaml_text("unspecified")},
      {"library_name", yaml_text("dalle")},
      {"pipeline_tag", yaml_text("text-to-image")},
      {"tags",
       {ConfigValue::List{yaml_text("dalle"), yaml_text("dvae"), yaml_text("text-to-image")}}}};
  ConfigValue::List metrics;
  for (const CardNumber& number : numbers)
    metrics.push_back(yaml_map({{"type", yaml_text(number.suite + "/" + number.name)},
                                {"name", yaml_text(number.label)},
                                {"value", {number.value}}}));
  if (metrics.empty()) return "---\n" + dump_yaml(yaml_map(std::move(card))) + "---\n";
  const ConfigValue result = yaml_map(
      {{"task", yaml_map({{"type", yaml_text("text-to-image")}})},
       {"dataset", yaml_map({{"name", yaml_text(data_text(config.data))},
                             {"type", yaml_text(std::string(to_string(config.data.kind)))}})},
       {"metrics", {std::move(metrics)}}});
  const ConfigValue model =
      yaml_map({{"name", yaml_text(config.name)}, {"results", {ConfigValue::List{result}}}});
  card.push_back({"model-index", {ConfigValue::List{model}}});
  return "---\n" + dump_yaml(yaml_map(std::move(card))) + "---\n";
}

std::string facts(const TrainedDalle& dalle, const Measured& lines) {
  const ExperimentConfig& config = dalle.config;
  const TransformerConfig& model = config.dalle.model;
  const SequenceLayout layout = config.layout();
  std::string steps = fmt::format("transformer: {} of {}", dalle.step, config.dalle.train.steps);
  const int64_t dvae_steps = config.dvae.train.steps;
  const bool is_best =
      config.dalle.dvae_checkpoint == DvaeCheckpoint::kBest && lines.dvae.is_object();
  if (!config.trains_dvae())
    steps += "; dVAE: not trained in this run";
  else if (is_best)
    steps +=
        fmt::format("; dVAE: {} of {} (best)", lines.dvae.value("step", dvae_steps), dvae_steps);
  else
    steps += fmt::format("; dVAE: {}", dvae_steps);
  std::string table = "| | |\n|---|---|\n";
  const auto row = [&](std::string_view name, const std::string& value) {
    table += fmt::format("| {} | {} |\n", name, value);
  };
  row("data", data_text(config.data));
  row("images", fmt::format("{0}x{0} pixels, {1}x{2} codes out of {3}", config.data.image_size,
                            layout.grid_height, layout.grid_width, config.dvae.model.vocab_size));
  row("captions", fmt::format("at most {} of {} BPE tokens", layout.max_caption_tokens(),
                              dalle.tokenizer.vocab_size()));
  row("transformer",
      fmt::format("{} layers, width {}, {} heads", model.depth, model.width, model.heads));
  row("steps", steps);
  row("batch size", fmt::format("transformer: {}", config.dalle.train.batch_size));
  row("seed", fmt::to_string(config.seed));
  if (!config.from.checkpoint.empty()) row("fine-tuned from", source_text(config.from.checkpoint));
  row("exported with", fmt::format("dalle {}", build_info().version));
  return table;
}

std::string card_table(const std::vector<CardNumber>& numbers) {
  std::string table =
      "| on validation images | value | 95 % confidence interval |\n|---|---|---|\n";
  for (const CardNumber& number : numbers)
    table += fmt::format("| {} | {} | {} |\n", number.label, number.text, number.interval);
  return table;
}

}  // namespace

std::string model_card(const TrainedDalle& dalle, const RunPaths& run) {
  const Measured lines = measured(dalle, run);
  std::vector<CardNumber> numbers = training_numbers(lines);
  for (CardNumber& number : evaluation_numbers(dalle, run)) numbers.push_back(std::move(number));
  std::string card = front_matter(dalle, numbers);
  card += fmt::format(
      "\n# {}\n\nA DALL-E model (Ramesh et al. 2021): a discrete VAE maps an image to a grid of "
      "codes, and a transformer models a caption's tokens followed by those codes. The weights are "
      "the exponential moving averages (EMA) of the training weights.\n\n{}",
      dalle.config.name, facts(dalle, lines));
  if (!numbers.empty()) card += "\n## Evaluation\n\n" + card_table(numbers);
  card +=
      "\n## License\n\nNot stated yet. Replace this line, `license` and `license_name` above with "
      "the license that your data and your use of them allow.\n"
      "\n## Files\n\n`config.json` describes both models, whose tensors in the safetensors "
      "files begin with `transformer.` and `dvae.`. `generation_config.json` has the sampling "
      "defaults, "
      "`tokenizer.model` is a sentencepiece model, and `preprocessor_config.json` says how an "
      "image becomes the dVAE's input.\n";
  return card + "\n## Config\n\n```yaml\n" + dump_config(without_folders(dalle.config)) + "```\n";
}

}  // namespace dalle
