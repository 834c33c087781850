#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "data/image/image.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/evaluation/scene_judging.h"
#include "experiment/stages/experiment_data.h"
#include "sample/caption_images.h"
#include "sample/decode_image.h"
#include "sample/image_prompt.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// Scenes that are completed. With as many, an interval is at most 4.4 percentage points to each
/// side.
constexpr int64_t kMaxCompletions = 500;

constexpr const char* kSuite = "completion";

/// Scenes whose upper half is given.
struct Prompts {
  std::vector<std::string> captions;
  std::vector<at::Tensor> codes;  ///< of the whole images, each [h, w] int64
};

Prompts prompts_of(EvaluatedModel& model, const EvaluationData& data, ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  const auto records = data.records(
      work, {kSuite, "prompts"},
      [&](const Batch& batch) -> ordered_json {
        const at::Tensor codes = model.vae->encode(unit_images(batch.images, device));  // [B, h, w]
        return {{"captions", batch.texts}, {"codes", codes_record(codes)}};
      },
      kMaxCompletions);
  return {.captions = joined<std::string>(records, "captions"), .codes = joined_codes(records)};
}

/// The rows of the grid that are given.
int64_t kept_rows(const EvaluatedModel& model) {
  return model.config.layout().grid_height / 2;
}

/// The codes of each completion, [h, w] int64. The second one of a caption is its image 1, which is
/// also the number of the image without a prompt that it is compared with.
std::vector<at::Tensor> complete(const EvaluatedModel& model, const Prompts& prompts,
                                 ChunkedWork& work) {
  std::map<std::string, int64_t> occurrences;
  std::vector<CaptionImages> requests;
  for (size_t i = 0; i < prompts.codes.size(); ++i) {
    at::Tensor forced = prompts.codes[i].clone();
    forced.slice(0, kept_rows(model)).fill_(kFreeCode);
    requests.push_back({.caption = caption_tokens(*model.dalle, prompts.captions[i]),
                        .first_image = occurrences[prompts.captions[i]]++,
                        .count = 1,
                        .forced = forced.flatten()});
  }
  const ChunkedPhase phase =
      generation_phase({kSuite, "image tokens"}, model, work, std::ssize(requests));
  const auto records = work.records(phase, [&](const Chunk& chunk) -> ordered_json {
    const auto codes = generate_chunk(model, items_of(chunk, requests), chunk);
    return {{"codes", codes_record(torch::stack(codes))}};
  });
  return joined_codes(records);
}

/// How many completions have the same objects in the given half as the images that it is from.
int64_t count_intact(const EvaluatedModel& model, const Prompts& prompts,
                     const std::vector<at::Tensor>& completions, ChunkedWork& work) {
  const double edge = static_cast<double>(kept_rows(model)) /
                      static_cast<double>(model.config.layout().grid_height);
  const SuitePhase named{std::string(kSuite), "given halves"};
  const ChunkedPhase phase = named.in_chunks(std::ssize(completions));
  const auto scene_of = [&](const at::Tensor& codes) {
    return detect_shapes(decode_image(model.vae, codes));
  };
  const auto records = work.records(phase, [&](const Chunk& chunk) -> ordered_json {
    const auto given = items_of(chunk, prompts.codes), completed = items_of(chunk, completions);
    int64_t intact = 0;
    for (size_t i = 0; i < given.size(); ++i)
      intact += has_same_objects_above(edge, scene_of(given[i]), scene_of(completed[i]));
    return {{"intact", std::vector<int64_t>{intact}}};
  });
  int64_t total = 0;
  for (const int64_t intact : joined<int64_t>(records, "intact")) total += intact;
  return total;
}

}  // namespace

SuiteResult evaluate_completion(EvaluatedModel& model, const EvaluationData& data,
                                const SuiteInputs& inputs, ChunkedWork& work) {
  const Prompts prompts = prompts_of(model, data, work);
  const std::vector<std::string>& captions = prompts.captions;
  const auto judge = [&](const std::vector<at::Tensor>& codes, const char* what) {
    return judge_codes(model, captions, codes, {kSuite, what}, work);
  };
  const std::vector<at::Tensor> completions = complete(model, prompts, work);
  const std::vector<ShapesMatch> matches = judge(completions, "completed images");
  const JudgedImages completed = judged_images(captions, matches);
  const JudgedImages alone = judged_images(
      captions, judge(inputs.generator.codes(captions, kSuite), "images without a prompt"));
  const JudgedImages ceiling = judged_images(captions, judge(prompts.codes, "reconstructions"));
  const int64_t intact = count_intact(model, prompts, completions, work);

  SuiteResult result;
  result.numbers = {{"images", completed.images()},
                    {"exact", named_proportion(completed, "exact")},
                    {"exact_without_prompt", named_proportion(alone, "exact")},
                    {"ceiling_exact", named_proportion(ceiling, "exact")}};
  if (const auto ratio = completed.exact_over(ceiling))
    result.numbers["exact_over_ceiling"] = number_of(*ratio);
  result.numbers["intact"] =
      number_of(wilson_interval(static_cast<double>(intact), completed.images()));
  add_examples(result, model, kSuite, captions, completions, matches);
  return result;
}

}  // namespace dalle
