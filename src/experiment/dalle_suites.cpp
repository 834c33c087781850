#include <algorithm>
#include <numbers>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/progress.h"
#include "data/image/image.h"
#include "eval/interval.h"
#include "eval/shapes_match.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"
#include "sample/generate_images.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// How well the tokens of one image or caption are predicted.
struct TokenScores {
  at::Tensor bits;  ///< [N] float64, -log2 of the probability of each token
  at::Tensor rank;  ///< [N] int64, how many tokens are more likely
};

/// @param states   [N, width]
/// @param head     [V, width]
/// @param targets  [N] int64 in [0, V)
TokenScores score_tokens(const at::Tensor& states, const at::Tensor& head,
                         const at::Tensor& targets) {
  const auto logits = at::matmul(states.to(head.scalar_type()), head.t()).to(at::kFloat);  // [N, V]
  const auto nats = -logits.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1);
  const auto own = logits.gather(1, targets.unsqueeze(1));  // [N, 1]
  return {.bits = nats.to(at::kCPU, at::kDouble) / std::numbers::ln2,
          .rank = logits.gt(own).sum(1).cpu()};
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

/// Totals of the judge over images.
struct JudgedImages {
  int64_t images = 0, exact = 0, count = 0;
  StatedValues shape, color, size, texture, background, relation;
  ShapesErrors errors;

  void add(const ShapesMatch& match) {
    ++images;
    exact += match.exact;
    count += match.count;
    shape += match.shape;
    color += match.color;
    size += match.size;
    texture += match.texture;
    background += match.background;
    relation += match.relation;
    errors.missing_objects += match.errors.missing_objects;
    errors.extra_objects += match.errors.extra_objects;
    errors.wrong_values += match.errors.wrong_values;
    errors.binding += match.errors.binding;
  }

  /// Adds the proportions to `json`, with `prefix` before their names.
  void write(ordered_json& json, const std::string& prefix) const {
    json[prefix + "exact"] = number_of(wilson_interval(exact, images));
    json[prefix + "count"] = number_of(wilson_interval(count, images));
    const auto write_values = [&](const char* name, const StatedValues& values) {
      if (values.stated > 0)
        json[prefix + name] = number_of(wilson_interval(values.right, values.stated));
    };
    write_values("shape", shape);
    write_values("color", color);
    write_values("size", size);
    write_values("texture", texture);
    write_values("background", background);
    write_values("relation", relation);
    json[prefix + "errors"] = {{"missing_objects", errors.missing_objects},
                               {"extra_objects", errors.extra_objects},
                               {"wrong_values", errors.wrong_values},
                               {"binding", errors.binding}};
  }
};

JudgedImages judge_generated(const TrainedDalle& dalle, const std::vector<std::string>& captions,
                             const CheckStop& check_stop) {
  std::vector<ShapesDescription> descriptions;
  std::vector<CaptionImages> requests;
  for (const std::string& caption : captions) {
    descriptions.push_back(parse_shapes_caption(caption));
    requests.push_back(
        {.caption = caption_tokens(dalle, caption), .count = kJudgedImagesPerCaption});
  }
  JudgedImages judged;
  const auto images = static_cast<int64_t>(captions.size()) * kJudgedImagesPerCaption;
  Progress progress("shapes: image tokens", images * dalle.config.layout().image_length());
  generate_images(
      dalle.model, dalle.vae, requests, dalle.config.sample,
      {.seed = static_cast<uint64_t>(dalle.config.seed)},
      [&](size_t request, int64_t, const RgbImage& image) {
        judged.add(match_shapes(descriptions[request], detect_shapes(image)));
      },
      [&](int64_t done, int64_t) {
        check_stop();
        progress.update(done);
      });
  return judged;
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
    const at::Tensor images = unit_images(batch, text_head.device());
    const at::Tensor codes = model.vae->encode(images).flatten(1);      // [B, N]
    const at::Tensor captions = batch.captions.to(text_head.device());  // [B, T - 1]
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
  const at::Tensor top1 = right.to(at::kDouble) / static_cast<double>(data.size());
  const double* first = top1.const_data_ptr<double>();
  return {{"images", data.size()},
          {"text_bits_per_token", number_of(ratio_interval(text.bits, text.tokens))},
          {"image_bits_per_token", number_of(ratio_interval(image.bits, image.tokens))},
          {"bits_per_image", number_of(mean_interval(image.bits))},
          {"text_top1", number_of(ratio_interval(text.top1, text.tokens))},
          {"text_top5", number_of(ratio_interval(text.top5, text.tokens))},
          {"image_top1", number_of(ratio_interval(image.top1, image.tokens))},
          {"image_top5", number_of(ratio_interval(image.top5, image.tokens))},
          {"image_top1_by_position", std::vector<double>(first, first + image_length)}};
}

ordered_json evaluate_shapes(EvaluatedModel& model, const EvaluationData& data,
                             const CheckStop& check_stop) {
  // With 1,000 images, the interval is at most 3 percentage points to each side.
  constexpr size_t kMaxCaptions = 250;
  std::vector<std::string> captions;
  JudgedImages reconstructed;
  data.for_each_batch("shapes: reconstructions", check_stop, [&](const Batch& batch) {
    const at::Tensor images = unit_images(batch, model.vae->parameters().front().device());
    const at::Tensor decoded = model.vae->decode(model.vae->encode(images));
    for (int64_t i = 0; i < batch.size(); ++i) {
      const std::string& caption = batch.texts[static_cast<size_t>(i)];
      reconstructed.add(
          match_shapes(parse_shapes_caption(caption), detect_shapes(tensor_to_image(decoded[i]))));
      if (captions.size() < kMaxCaptions) captions.push_back(caption);
    }
  });
  const JudgedImages generated = judge_generated(*model.dalle, captions, check_stop);
  ordered_json result{{"captions", captions.size()},
                      {"images", generated.images},
                      {"reconstructions", reconstructed.images}};
  generated.write(result, "");
  reconstructed.write(result, "ceiling_");
  const auto share = [](const JudgedImages& judged) {
    return static_cast<double>(judged.exact) / static_cast<double>(judged.images);
  };
  if (reconstructed.exact > 0)
    result["exact_over_ceiling"] = number_of(share(generated) / share(reconstructed));
  return result;
}

}  // namespace dalle
