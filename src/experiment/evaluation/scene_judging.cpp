#include "experiment/evaluation/scene_judging.h"

#include <algorithm>
#include <utility>

#include <torch/types.h>

#include "core/error.h"
#include "experiment/stages/experiment_data.h"
#include "sample/decode_image.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// Calls `use` with every number of a verdict, in one fixed order.
template <class Match, class Use>
void for_each_number(Match& match, Use&& use) {
  for (const auto& [name, values] : kStatedValues) {
    use((match.*values).right);
    use((match.*values).stated);
  }
  use(match.errors.missing_objects);
  use(match.errors.extra_objects);
  use(match.errors.wrong_values);
  use(match.errors.binding);
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
  for (const auto& [name, values] : kStatedValues)
    if ((match.*values).right < (match.*values).stated) parts.emplace_back(name);
  return parts;
}

/// A verdict as part of a record, and back.
ordered_json match_record(const ShapesMatch& match) {
  ordered_json record = {match.exact, match.count};
  for_each_number(match, [&](int64_t number) { record.push_back(number); });
  return record;
}

ShapesMatch recorded_match(const ordered_json& record) {
  ShapesMatch match;
  match.exact = record.at(0).get<bool>();
  match.count = record.at(1).get<bool>();
  size_t next = 2;
  for_each_number(match, [&](int64_t& number) { number = record.at(next++).get<int64_t>(); });
  return match;
}

std::vector<ShapesMatch> joined_matches(const std::vector<ordered_json>& records) {
  std::vector<ShapesMatch> matches;
  for (const ordered_json& record : records)
    for (const ordered_json& match : record.at("matches")) matches.push_back(recorded_match(match));
  return matches;
}

}  // namespace

ordered_json named_proportion(const JudgedImages& judged, std::string_view name) {
  for (const auto& [found, proportion] : judged.proportions())
    if (found == name) return number_of(proportion);
  throw Error("the judge has no number {}", name);
}

JudgedImages judged_images(const std::vector<std::string>& captions,
                           const std::vector<ShapesMatch>& matches) {
  JudgedImages judged;
  for (size_t i = 0; i < captions.size(); ++i) judged.add(captions[i], matches[i]);
  return judged;
}

JudgedReconstructions judge_reconstructions(EvaluatedModel& model, const EvaluationData& data,
                                            const SuitePhase& phase, int64_t limit,
                                            ChunkedWork& work) {
  const SequenceLayout layout = model.config.layout();
  const auto judge_batch = [&](const Batch& batch) -> ordered_json {
    const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
    ordered_json matches = ordered_json::array();
    for (int64_t i = 0; i < batch.size(); ++i) {
      const auto grid = codes[i].view({layout.grid_height, layout.grid_width});
      matches.push_back(match_record(
          judge_image(batch.texts[static_cast<size_t>(i)], decode_image(model.vae, grid))));
    }
    return {{"captions", batch.texts}, {"matches", std::move(matches)}};
  };
  const auto records = data.records(work, phase, judge_batch, limit);
  JudgedReconstructions result{.captions = joined<std::string>(records, "captions"), .judged = {}};
  result.judged = judged_images(result.captions, joined_matches(records));
  return result;
}

std::vector<ShapesMatch> judge_codes(const EvaluatedModel& model,
                                     const std::vector<std::string>& captions,
                                     const std::vector<at::Tensor>& codes, const SuitePhase& phase,
                                     ChunkedWork& work) {
  const ChunkedPhase chunked = phase.in_chunks(std::ssize(codes));
  return joined_matches(work.records(chunked, [&](const Chunk& chunk) -> ordered_json {
    ordered_json matches = ordered_json::array();
    const auto of_captions = items_of(chunk, captions);
    const auto of_codes = items_of(chunk, codes);
    for (size_t i = 0; i < of_codes.size(); ++i)
      matches.push_back(
          match_record(judge_image(of_captions[i], decode_image(model.vae, of_codes[i]))));
    return {{"matches", std::move(matches)}};
  }));
}

void add_examples(SuiteResult& result, const EvaluatedModel& model, const std::string& suite,
                  const std::vector<std::string>& captions, const std::vector<at::Tensor>& codes,
                  const std::vector<ShapesMatch>& matches) {
  constexpr size_t kExamples = 24;
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < std::min(codes.size(), kExamples); ++i) {
    const std::string file = fmt::format("{}-{:02}.png", suite, i + 1);
    list.push_back({{"caption", captions[i]},
                    {"exact", matches[i].exact},
                    {"wrong", wrong_parts(matches[i])},
                    {"file", file}});
    result.images[file] = decode_image(model.vae, codes[i]);
  }
  result.numbers["examples"] = std::move(list);
}

}  // namespace dalle
