#include <algorithm>
#include <map>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/progress.h"
#include "data/image/image.h"
#include "eval/interval.h"
#include "eval/judged_images.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"
#include "sample/generate_images.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// How well the tokens of one image or caption are predicted.
struct TokenScores {
  at::Tensor bits;  ///< [N] float64, -log2 of the probability of each token
  at::Tensor rank;  ///< [N] int64, how many other tokens are at least as likely
};

/// @param states   [N, width]
/// @param head     [V, width]
/// @param targets  [N] int64 in [0, V)
TokenScores score_tokens(const at::Tensor& states, const at::Tensor& head,
                         const at::Tensor& targets) {
  const auto logits = at::matmul(states.to(head.scalar_type()), head.t()).to(at::kFloat);  // [N, V]
  if (!logits.isfinite().all().item<bool>()) throw Error("the model's logits are not finite");
  const auto nats = -logits.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1);
  const auto own = logits.gather(1, targets.unsqueeze(1));  // [N, 1]
  return {.bits = nats.to(at::kCPU, at::kDouble) / std::numbers::ln2,
          .rank = logits.ge(own).sum(1).sub(1).cpu()};
}

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

ShapesMatch judged(const std::string& caption, const RgbImage& image) {
  return match_shapes(parse_shapes_caption(caption), detect_shapes(image));
}

void write(ordered_json& json, const std::string& prefix, const JudgedImages& judged) {
  for (const auto& [name, proportion] : judged.proportions())
    json[prefix + std::string(name)] = number_of(proportion);
  const ShapesErrors errors = judged.errors();
  json[prefix + "errors"] = {{"missing_objects", errors.missing_objects},
                             {"extra_objects", errors.extra_objects},
                             {"wrong_values", errors.wrong_values},
                             {"binding", errors.binding}};
}

/// Judges one image for each caption. The second image of a caption that occurs twice is its image
/// 1, because image 0 would be the same again.
JudgedImages judge_generated(const TrainedDalle& dalle, const std::vector<std::string>& captions,
                             const CheckStop& check_stop) {
  std::vector<CaptionImages> requests;
  std::map<std::string, int64_t> occurrences;
  for (const std::string& caption : captions)
    requests.push_back({.caption = caption_tokens(dalle, caption),
                        .first_image = occurrences[caption]++,
                        .count = 1});
  std::vector<ShapesMatch> matches(captions.size());
  Progress progress("shapes: image tokens",
                    static_cast<int64_t>(captions.size()) * dalle.config.layout().image_length());
  generate_images(
      dalle.model, dalle.vae, requests, dalle.config.sample,
      {.seed = static_cast<uint64_t>(dalle.config.seed), .decode = dalle.config.sample},
      [&](size_t request, int64_t, const RgbImage& image) {
        matches[request] = judged(captions[request], image);
      },
      [&](int64_t done, int64_t) {
        check_stop();
        progress.update(done);
      });
  JudgedImages all;
  for (size_t i = 0; i < captions.size(); ++i) all.add(captions[i], matches[i]);
  return all;
}

}  // namespace

ordered_json evaluate_likelihood(EvaluatedModel& model, const EvaluationData& data,
                                 const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  DalleModel transformer = model.dalle->model;
  const auto parameters = transformer->named_parameters();
  const at::Tensor text_head = parameters["text_head.weight"];    // [text classes, width]
  const at::Tensor image_head = parameters["image_head.weight"];  // [K, width]
  const int64_t text_length = transformer->layout().text_length;
  const int64_t image_length = transformer->layout().image_length();
  LikelihoodSums text, image;
  at::Tensor right = torch::zeros({image_length}, at::kLong);  // top-1, by position
  data.for_each_batch("likelihood: images", check_stop, [&](const Batch& batch) {
    const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
    const at::Tensor captions = batch.captions.to(text_head.device());      // [B, T - 1]
    const at::Tensor states = transformer->hidden_states(captions, codes);
    for (int64_t i = 0; i < batch.size(); ++i) {
      // Text state p predicts caption token p; the last one predicts nothing.
      const at::Tensor tokens = captions[i].masked_select(captions[i].ne(kPadToken));
      text.add(score_tokens(states[i].narrow(0, 0, tokens.numel()), text_head, tokens));
      const TokenScores scores =
          score_tokens(states[i].narrow(0, text_length, image_length), image_head, codes[i]);
      image.add(scores);
      right += scores.rank.lt(1);
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

ordered_json evaluate_shapes(EvaluatedModel& model, const EvaluationData& data,
                             const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const SequenceLayout layout = model.config.layout();
  // With as many independent images, an interval is at most 3 percentage points to each side.
  constexpr size_t kMaxCaptions = 1000;
  std::vector<std::string> captions;
  JudgedImages reconstructed;
  data.for_each_batch("shapes: reconstructions", check_stop, [&](const Batch& batch) {
    const auto left = static_cast<int64_t>(kMaxCaptions - captions.size());
    if (left == 0) return;
    const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
    for (int64_t i = 0; i < std::min(left, batch.size()); ++i) {
      captions.push_back(batch.texts[static_cast<size_t>(i)]);
      const auto grid = codes[i].view({layout.grid_height, layout.grid_width});
      reconstructed.add(captions.back(), judged(captions.back(), decode_image(model.vae, grid)));
    }
  });
  const JudgedImages generated = judge_generated(*model.dalle, captions, check_stop);
  ordered_json result{{"images", generated.images()}};
  write(result, "", generated);
  write(result, "ceiling_", reconstructed);
  if (const auto ratio = generated.exact_over(reconstructed))
    result["exact_over_ceiling"] = number_of(*ratio);
  return result;
}

}  // namespace dalle
