#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/log.h"
#include "data/image/image.h"
#include "data/shapes_dataset.h"
#include "eval/judged_images.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"
#include "experiment/image_generator.h"
#include "sample/generate_images.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// Scenes that are judged. With as many independent images, an interval is at most 3 percentage
/// points to each side.
constexpr int64_t kMaxCaptions = 1000;

void write(ordered_json& json, const std::string& prefix, const JudgedImages& judged) {
  for (const auto& [name, proportion] : judged.proportions())
    json[prefix + std::string(name)] = number_of(proportion);
  const ShapesErrors errors = judged.errors();
  json[prefix + "errors"] = {{"missing_objects", errors.missing_objects},
                             {"extra_objects", errors.extra_objects},
                             {"wrong_values", errors.wrong_values},
                             {"binding", errors.binding}};
}

/// What is wrong with an image: "color", "1 object missing".
std::vector<std::string> wrong_parts(const ShapesMatch& match) {
  std::vector<std::string> parts;
  const auto add_objects = [&](int64_t count, const char* what) {
    if (count > 0)
      parts.push_back(fmt::format("{} object{} {}", count, count == 1 ? "" : "s", what));
  };
  add_objects(match.errors.missing_objects, "missing");
  add_objects(match.errors.extra_objects, "too many");
  const auto add_values = [&](const char* name, const StatedValues& values) {
    if (values.right < values.stated) parts.emplace_back(name);
  };
  add_values("shape", match.shape);
  add_values("color", match.color);
  add_values("size", match.size);
  add_values("texture", match.texture);
  add_values("background", match.background);
  add_values("relation", match.relation);
  return parts;
}

/// A generated image that the report shows.
struct Example {
  RgbImage image;
  ShapesMatch match;
};

/// Adds the examples and their images.
void write_examples(SuiteResult& result, const std::vector<std::string>& captions,
                    std::vector<Example>& examples) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < examples.size(); ++i) {
    const std::string file = fmt::format("shapes-{:02}.png", i + 1);
    list.push_back({{"caption", captions[i]},
                    {"exact", examples[i].match.exact},
                    {"wrong", wrong_parts(examples[i].match)},
                    {"file", file}});
    result.images[file] = std::move(examples[i].image);
  }
  result.numbers["examples"] = std::move(list);
}

struct JudgedSamples {
  JudgedImages judged;
  std::vector<Example> examples;  ///< of the first captions
};

JudgedSamples judge_generated(const std::vector<std::string>& captions, ImageGenerator& generator,
                              const std::string& what, const CheckStop& check_stop) {
  constexpr size_t kExamples = 24;
  JudgedSamples result;
  const std::vector<at::Tensor> images = generator.images(captions, what, check_stop);
  for (size_t i = 0; i < images.size(); ++i) {
    check_stop();
    RgbImage image = tensor_to_image(images[i]);
    const ShapesMatch match = judge_image(captions[i], image);
    result.judged.add(captions[i], match);
    if (i < kExamples) result.examples.push_back({.image = std::move(image), .match = match});
  }
  return result;
}

/// Judges generated images and reconstructions for the captions of `data`. Progress and results
/// have the name `what`.
SuiteResult judge_captions(EvaluatedModel& model, const EvaluationData& data,
                           ImageGenerator& generator, const std::string& what,
                           const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const SequenceLayout layout = model.config.layout();
  std::vector<std::string> captions;
  JudgedImages reconstructed;
  const auto judge_batch = [&](const Batch& batch) {
    const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
    for (int64_t i = 0; i < batch.size(); ++i) {
      captions.push_back(batch.texts[static_cast<size_t>(i)]);
      const auto grid = codes[i].view({layout.grid_height, layout.grid_width});
      reconstructed.add(captions.back(),
                        judge_image(captions.back(), decode_image(model.vae, grid)));
    }
  };
  data.for_each_batch(what + ": reconstructions", check_stop, judge_batch, kMaxCaptions);
  JudgedSamples samples = judge_generated(captions, generator, what, check_stop);
  SuiteResult result;
  result.numbers = {{"images", samples.judged.images()}};
  write(result.numbers, "", samples.judged);
  write(result.numbers, "ceiling_", reconstructed);
  if (const auto ratio = samples.judged.exact_over(reconstructed))
    result.numbers["exact_over_ceiling"] = number_of(*ratio);
  write_examples(result, captions, samples.examples);
  return result;
}

/// Whether the config's attributes allow scenes of a level.
bool has_scenes(const ExperimentConfig& config, ShapesSplit level) {
  try {
    sample_scene(config.data.shapes, static_cast<uint64_t>(config.seed), level, 0);
    return true;
  } catch (const Error& error) {
    log_info("levels: skipping {}: {}", to_string(level), error.what());
    return false;
  }
}

}  // namespace

SuiteResult evaluate_shapes(EvaluatedModel& model, const EvaluationData& data,
                            ImageGenerator& generator, const CheckStop& check_stop) {
  warn_of_untrained_guidance(model.config, model.config.sample);
  return judge_captions(model, data, generator, "shapes", check_stop);
}

ordered_json evaluate_levels(EvaluatedModel& model, const EvaluationData& data,
                             const CheckStop& check_stop) {
  warn_of_untrained_guidance(model.config, model.config.sample);
  const ExperimentConfig& config = model.config;
  ordered_json numbers = ordered_json::object();
  for (const auto& [level, name] : enum_names(ShapesSplit{})) {
    if (level == ShapesSplit::kTrain || !has_scenes(config, level)) continue;
    const EvaluationData scenes(
        model, data.size(),
        std::make_unique<ShapesDataset>(config.data.shapes, config.data.image_size,
                                        static_cast<uint64_t>(config.seed), level));
    ImageGenerator generator(model);
    const ordered_json found =
        judge_captions(model, scenes, generator, "levels: " + std::string(name), check_stop)
            .numbers;
    for (const char* number : {"images", "exact", "count", "shape", "color", "relation",
                               "ceiling_exact", "exact_over_ceiling"})
      if (found.contains(number)) numbers[std::string(name) + "_" + number] = found.at(number);
  }
  return numbers;
}

}  // namespace dalle
