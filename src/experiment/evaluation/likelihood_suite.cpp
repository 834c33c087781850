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

/// Sums over the tokens of each image.
struct LikelihoodSums {
  std::vector<double> tokens, bits, top1, top5;

  void add(const TokenScores& scores) {
    tokens.push_back(static_cast<double>(scores.bits.numel()));
    bits.push_back(scores.bits.sum().item<double>());
    top1.push_back(static_cast<double>(scores.rank.lt(1).sum().item<int64_t>()));
    top5.push_back(static_cast<double>(scores.rank.lt(5).sum().item<int64_t>()));
  }

  ordered_json record() const {
    return {{"tokens", tokens}, {"bits", bits}, {"top1", top1}, {"top5", top5}};
  }
};

LikelihoodSums joined_sums(const std::vector<ordered_json>& records, const char* modality) {
  std::vector<ordered_json> parts;
  for (const ordered_json& record : records) parts.push_back(record.at(modality));
  return {.tokens = joined<double>(parts, "tokens"),
          .bits = joined<double>(parts, "bits"),
          .top1 = joined<double>(parts, "top1"),
          .top5 = joined<double>(parts, "top5")};
}

ordered_json likelihoods(EvaluatedModel& model, const Batch& batch) {
  DalleModel transformer = model.dalle->model;
  LikelihoodSums text, image;
  std::vector<at::Tensor> right;                                          // top-1, of each image
  const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
  const at::Tensor captions = batch.captions.to(codes.device());          // [B, T - 1]
  const at::Tensor states = transformer->hidden_states(captions, codes);
  for (int64_t i = 0; i < batch.size(); ++i) {
    const SequenceScores scores = score_sequence(transformer, states[i], captions[i], codes[i]);
    text.add(scores.text);
    image.add(scores.image);
    right.push_back(scores.image.rank.lt(1));
  }
  return {{"text", text.record()},
          {"image", image.record()},
          {"right", tensor_record(torch::stack(right))}};
}

}  // namespace

ordered_json evaluate_likelihood(EvaluatedModel& model, const EvaluationData& data,
                                 ChunkedWork& work) {
  const auto records = data.records(work, {"likelihood", "images"},
                                    [&](const Batch& batch) { return likelihoods(model, batch); });
  const LikelihoodSums text = joined_sums(records, "text"), image = joined_sums(records, "image");
  const at::Tensor top1 = joined_tensors(records, "right").to(at::kDouble).mean(0);  // [N]
  return {{"images", image.bits.size()},
          {"text_bits_per_token", number_of(ratio_interval(text.bits, text.tokens))},
          {"image_bits_per_token", number_of(ratio_interval(image.bits, image.tokens))},
          {"bits_per_image", number_of(mean_interval(image.bits))},
          {"text_top1", number_of(clustered_proportion(text.top1, text.tokens))},
          {"text_top5", number_of(clustered_proportion(text.top5, text.tokens))},
          {"image_top1", number_of(clustered_proportion(image.top1, image.tokens))},
          {"image_top5", number_of(clustered_proportion(image.top5, image.tokens))},
          {"image_top1_by_position", doubles_of(top1)}};
}

}  // namespace dalle
