#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/log.h"
#include "data/shapes_dataset.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/evaluation/scene_judging.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// Scenes that are judged. With as many independent images, an interval is at most 3 percentage
/// points to each side.
constexpr int64_t kMaxCaptions = 1000;

void write(ordered_json& json, const std::string& prefix, const JudgedImages& judged) {
  for (const auto& [name, proportion] : judged.proportions())
    json[prefix + std::string(name)] = number_of(proportion);
  if (const auto ratio = judged.joint_over_product())
    json[prefix + "joint_over_product"] = number_of(*ratio);
  const ShapesErrors errors = judged.errors();
  json[prefix + "errors"] = {{"missing_objects", errors.missing_objects},
                             {"extra_objects", errors.extra_objects},
                             {"wrong_values", errors.wrong_values},
                             {"binding", errors.binding}};
}

/// How the number of atoms of a caption affects accuracy. The atoms of an image are right or wrong,
/// so their geometric mean is 1 for an exact image, else 0.
ordered_json by_atoms(const JudgedImages& generated, const JudgedImages& reconstructed) {
  ordered_json list = ordered_json::array();
  const auto ceilings = reconstructed.by_atoms();
  for (const auto& [atoms, judged] : generated.by_atoms())
    list.push_back({{"atoms", atoms},
                    {"images", judged.images()},
                    {"arithmetic_mean", named_proportion(judged, "atoms")},
                    {"geometric_mean", named_proportion(judged, "exact")},
                    {"ceiling_geometric_mean", named_proportion(ceilings.at(atoms), "exact")}});
  return list;
}

/// Judges generated images and reconstructions for the captions of `data`. Progress and stored
/// records have the name `what`.
SuiteResult judge_captions(EvaluatedModel& model, const EvaluationData& data,
                           ImageGenerator& generator, const SuitePhase& what, ChunkedWork& work) {
  const std::string level = what.name.empty() ? "" : what.name + " ";
  const JudgedReconstructions reconstructed = judge_reconstructions(
      model, data, {what.suite, level + "reconstructions"}, kMaxCaptions, work);
  const std::vector<std::string>& captions = reconstructed.captions;
  const std::vector<at::Tensor> codes =
      generator.codes(captions, level.empty() ? what.suite : what.what());
  const std::vector<ShapesMatch> matches =
      judge_codes(model, captions, codes, {what.suite, level + "generated images"}, work);
  const JudgedImages generated = judged_images(captions, matches);
  SuiteResult result;
  result.numbers = {{"images", generated.images()}};
  write(result.numbers, "", generated);
  write(result.numbers, "ceiling_", reconstructed.judged);
  if (const auto ratio = generated.exact_over(reconstructed.judged))
    result.numbers["exact_over_ceiling"] = number_of(*ratio);
  result.numbers["by_atoms"] = by_atoms(generated, reconstructed.judged);
  add_examples(result, model, what.suite, captions, codes, matches);
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

/// Whether the model reads the captions of a level to their end.
bool can_read(const EvaluatedModel& model, const ShapesDataset& scenes, int64_t count,
              ShapesSplit level) {
  const int64_t longest = model.config.layout().max_caption_tokens();
  for (int64_t i = 0; i < count; ++i)
    for (const std::string& caption : scenes.captions(i)) {
      const auto tokens = std::ssize(model.dalle->tokenizer.encode(caption));
      if (tokens <= longest) continue;
      log_info("levels: skipping {}: caption {:?} has {} tokens, and the model reads only {}",
               to_string(level), caption, tokens, longest);
      return false;
    }
  return true;
}

}  // namespace

SuiteResult evaluate_shapes(EvaluatedModel& model, const EvaluationData& data,
                            const SuiteInputs& inputs, ChunkedWork& work) {
  return judge_captions(model, data, inputs.generator, {"shapes", ""}, work);
}

SuiteResult evaluate_levels(EvaluatedModel& model, const EvaluationData& data, const SuiteInputs&,
                            ChunkedWork& work) {
  const ExperimentConfig& config = model.config;
  const auto seed = static_cast<uint64_t>(config.seed);
  ordered_json numbers = ordered_json::object();
  for (const auto& [level, name] : enum_names(ShapesSplit{})) {
    if (level == ShapesSplit::kTrain || !has_scenes(config, level)) continue;
    auto dataset =
        std::make_unique<ShapesDataset>(config.data.shapes, config.data.image_size, seed, level);
    if (!can_read(model, *dataset, std::min(data.size(), kMaxCaptions), level)) continue;
    const EvaluationData scenes(model, data.size(), std::move(dataset));
    ImageGenerator generator(model, work);
    const ordered_json found =
        judge_captions(model, scenes, generator, {"levels", std::string(name)}, work).numbers;
    for (const char* number : {"images", "exact", "count", "shape", "color", "relation", "atoms",
                               "joint_over_product", "ceiling_exact", "exact_over_ceiling"})
      if (found.contains(number)) numbers[std::string(name) + "_" + number] = found.at(number);
  }
  return {.numbers = std::move(numbers)};
}

}  // namespace dalle
