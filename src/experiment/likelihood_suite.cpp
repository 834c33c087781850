#include <vector>

#include <torch/types.h>

#include "eval/interval.h"
#include "eval/token_scores.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"

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
};

}  // namespace

ordered_json evaluate_likelihood(EvaluatedModel& model, const EvaluationData& data,
                                 const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  DalleModel transformer = model.dalle->model;
  const int64_t image_length = transformer->layout().image_length();
  LikelihoodSums text, image;
  at::Tensor right = torch::zeros({image_length}, at::kLong);  // top-1, by position
  data.for_each_batch("likelihood: images", check_stop, [&](const Batch& batch) {
    const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
    const at::Tensor captions = batch.captions.to(codes.device());          // [B, T - 1]
    const at::Tensor states = transformer->hidden_states(captions, codes);
    for (int64_t i = 0; i < batch.size(); ++i) {
      const SequenceScores scores = score_sequence(transformer, states[i], captions[i], codes[i]);
      text.add(scores.text);
      image.add(scores.image);
      right += scores.image.rank.lt(1);
    }
  });
  const at::Tensor top1 = right.to(at::kDouble) / static_cast<double>(image.bits.size());
  const double* first = top1.const_data_ptr<double>();
  return {{"images", image.bits.size()},
          {"text_bits_per_token", number_of(ratio_interval(text.bits, text.tokens))},
          {"image_bits_per_token", number_of(ratio_interval(image.bits, image.tokens))},
          {"bits_per_image", number_of(mean_interval(image.bits))},
          {"text_top1", number_of(clustered_proportion(text.top1, text.tokens))},
          {"text_top5", number_of(clustered_proportion(text.top5, text.tokens))},
          {"image_top1", number_of(clustered_proportion(image.top1, image.tokens))},
          {"image_top5", number_of(clustered_proportion(image.top5, image.tokens))},
          {"image_top1_by_position", std::vector<double>(first, first + image_length)}};
}

}  // namespace dalle
