#include <string>
#include <vector>

#include <torch/types.h>

#include "eval/interval.h"
#include "eval/token_scores.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/stages/experiment_data.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// Adds the sums over the tokens of an image to the arrays of a record.
void add_sums(ordered_json& record, const std::string& modality, const TokenScores& scores) {
  const auto add = [&](const char* name, double sum) { record[modality + name].push_back(sum); };
  add("_tokens", static_cast<double>(scores.bits.numel()));
  add("_bits", scores.bits.sum().item<double>());
  add("_top1", scores.rank.lt(1).sum().item<double>());
  add("_top5", scores.rank.lt(5).sum().item<double>());
}

ordered_json likelihoods(EvaluatedModel& model, const Batch& batch) {
  DalleModel transformer = model.dalle->model;
  ordered_json record;
  std::vector<at::Tensor> right;                                          // top-1, of each image
  const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
  const at::Tensor captions = batch.captions.to(codes.device());          // [B, T - 1]
  const at::Tensor states = transformer->hidden_states(captions, codes);
  for (int64_t i = 0; i < batch.size(); ++i) {
    const SequenceScores scores = score_sequence(transformer, states[i], captions[i], codes[i]);
    add_sums(record, "text", scores.text);
    add_sums(record, "image", scores.image);
    right.push_back(scores.image.rank.lt(1));
  }
  record["right"] = tensor_record(torch::stack(right));
  return record;
}

}  // namespace

SuiteResult evaluate_likelihood(EvaluatedModel& model, const EvaluationData& data,
                                const SuiteInputs&, ChunkedWork& work) {
  const auto records = data.records(work, {"likelihood", "images"},
                                    [&](const Batch& batch) { return likelihoods(model, batch); });
  const auto sums = [&](const char* name) { return joined<double>(records, name); };
  const auto text_tokens = sums("text_tokens"), image_tokens = sums("image_tokens");
  const auto image_bits = sums("image_bits");
  const at::Tensor top1 = joined_tensors(records, "right").to(at::kDouble).mean(0);  // [N]
  return {.numbers = {
              {"images", image_bits.size()},
              {"text_bits_per_token", number_of(ratio_interval(sums("text_bits"), text_tokens))},
              {"image_bits_per_token", number_of(ratio_interval(image_bits, image_tokens))},
              {"bits_per_image", number_of(mean_interval(image_bits))},
              {"text_top1", number_of(clustered_proportion(sums("text_top1"), text_tokens))},
              {"text_top5", number_of(clustered_proportion(sums("text_top5"), text_tokens))},
              {"image_top1", number_of(clustered_proportion(sums("image_top1"), image_tokens))},
              {"image_top5", number_of(clustered_proportion(sums("image_top5"), image_tokens))},
              {"image_top1_by_position", doubles_of(top1)}}};
}

}  // namespace dalle
