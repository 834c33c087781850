#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/progress.h"
#include "data/image/image.h"
#include "eval/retrieval.h"
#include "eval/shapes_match.h"
#include "experiment/evaluation_suites.h"
#include "experiment/reranker.h"
#include "experiment/trained_clip.h"
#include "sample/generate_images.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxRetrieved = 256;  // the default of clip.train.eval_chunk
constexpr size_t kMaxRankedCaptions = 100;
constexpr std::array<int64_t, 4> kImages = {1, 4, 16, 64};  // to select from
constexpr int64_t kMostImages = kImages.back();

/// Adds how often the contrastive model finds the caption of an image, and the image of a caption.
/// @return  captions with different tokens, in order
std::vector<std::string> add_retrieval(TrainedClip& clip, const EvaluationData& data,
                                       const CheckStop& check_stop, ordered_json& numbers) {
  std::vector<std::string> captions;
  std::map<std::vector<int64_t>, int64_t> label_of;  // by the caption's tokens
  std::vector<int64_t> labels;                       // also the rows of caption_embeddings
  std::vector<at::Tensor> image_embeddings, caption_embeddings;
  const auto embed_batch = [&](const Batch& batch) {
    for (int64_t i = 0; i < batch.size(); ++i) {
      const std::string& text = batch.texts[static_cast<size_t>(i)];
      const auto [entry, is_new] =
          label_of.try_emplace(clip.encode(text), static_cast<int64_t>(label_of.size()));
      if (is_new) {
        captions.push_back(text);
        caption_embeddings.push_back(embed_captions(clip, {&text, 1})[0]);
      }
      labels.push_back(entry->second);
      const RgbImage image = tensor_to_image(batch.images[i]);
      image_embeddings.push_back(embed_images(clip, {&image, 1})[0]);
    }
  };
  data.for_each_batch("best_of: retrieval", check_stop, embed_batch, kMaxRetrieved);
  const auto count = static_cast<int64_t>(labels.size());
  const at::Tensor label_tensor = torch::tensor(labels, torch::kLong);
  const at::Tensor similarity =
      at::matmul(torch::stack(image_embeddings), torch::stack(caption_embeddings).t())
          .cpu()
          .index_select(1, label_tensor);  // [N, N]
  numbers["images"] = count;
  for (const auto& [name, share] : retrieval_shares(similarity, label_tensor))
    numbers[name] = number_of(wilson_interval(share * static_cast<double>(count), count));
  return captions;
}

/// Generates images of each caption, scores and judges them.
/// @return  by caption, then by the image's number
std::vector<std::vector<JudgedCandidate>> judged_images(const TrainedDalle& dalle,
                                                        Reranker& reranker,
                                                        const std::vector<std::string>& captions,
                                                        const CheckStop& check_stop) {
  std::vector<CaptionImages> requests;
  for (const std::string& caption : captions)
    requests.push_back({.caption = caption_tokens(dalle, caption), .count = kMostImages});
  std::vector images(captions.size(), std::vector<JudgedCandidate>(kMostImages));
  Progress progress("best_of: image tokens", static_cast<int64_t>(captions.size()) * kMostImages *
                                                 dalle.config.layout().image_length());
  generate_codes(
      dalle.model, requests, dalle.config.sample,
      {.seed = static_cast<uint64_t>(dalle.config.seed), .decode = dalle.config.sample},
      [&](size_t request, int64_t number, const at::Tensor& codes) {
        const std::string& caption = captions[request];
        const RgbImage image = decode_image(dalle.vae, codes);
        images[request][static_cast<size_t>(number)] = {
            .score = reranker.score(caption, codes, image),
            .exact = judge_image(caption, image).exact};
      },
      [&](int64_t done, int64_t) {
        check_stop();
        progress.update(done);
      });
  return images;
}

}  // namespace

ordered_json best_of_numbers(std::span<const std::vector<JudgedCandidate>> images) {
  const auto total = static_cast<int64_t>(images.size());
  std::vector<double> first;
  for (const auto& of_caption : images) first.push_back(of_caption.front().score);
  ordered_json numbers{{"captions", total}, {"clip_score", number_of(mean_interval(first))}};
  for (const int64_t count : kImages) {
    double exact = 0, possible = 0;
    for (const auto& of_caption : images) {
      const auto end = of_caption.begin() + count;
      const auto best =
          std::ranges::max_element(of_caption.begin(), end, {}, &JudgedCandidate::score);
      exact += best->exact ? 1 : 0;
      possible += std::ranges::any_of(of_caption.begin(), end, &JudgedCandidate::exact) ? 1 : 0;
    }
    numbers[fmt::format("exact_of_{}", count)] = number_of(wilson_interval(exact, total));
    numbers[fmt::format("possible_of_{}", count)] = number_of(wilson_interval(possible, total));
  }
  return numbers;
}

ordered_json evaluate_best_of(EvaluatedModel& model, const EvaluationData& data,
                              const std::filesystem::path& contrastive,
                              const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const c10::Device device = model.vae->parameters().front().device();
  TrainedClip clip = load_trained_clip(contrastive, device, Precision::kFloat32);
  ordered_json numbers{{"reranker", clip.hash}};
  std::vector<std::string> captions = add_retrieval(clip, data, check_stop, numbers);
  if (model.config.data.kind != DatasetKind::kShapes) return numbers;
  captions.resize(std::min(captions.size(), kMaxRankedCaptions));
  const std::unique_ptr<Reranker> reranker = make_clip_reranker(*model.dalle, std::move(clip));
  numbers.update(best_of_numbers(judged_images(*model.dalle, *reranker, captions, check_stop)));
  return numbers;
}

}  // namespace dalle
