#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "data/image/image.h"
#include "eval/retrieval.h"
#include "eval/shapes_match.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_clip.h"
#include "sample/generate_images.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxRetrieved = 256;  // the default of clip.train.eval_chunk
constexpr size_t kMaxRankedCaptions = 100;
constexpr std::array<int64_t, 4> kImages = {1, 4, 16, 64};  // to select from
constexpr int64_t kMostImages = kImages.back();

/// The embeddings of images and captions that are compared with one another.
struct Embeddings {
  std::vector<std::string> texts;
  at::Tensor images, captions;  ///< [N, E]
};

/// Records of another contrastive model are of no use.
SuitePhase phase_of(const char* name, const std::string& clip_hash) {
  return {.suite = "best_of", .name = name, .version = clip_hash.substr(0, 12) + "/"};
}

Embeddings embed(TrainedClip& clip, const EvaluationData& data, ChunkedWork& work) {
  const auto records = data.records(
      work, phase_of("retrieval", clip.hash),
      [&](const Batch& batch) -> ordered_json {
        std::vector<at::Tensor> images, captions;
        for (int64_t i = 0; i < batch.size(); ++i) {
          const RgbImage image = tensor_to_image(batch.images[i]);
          images.push_back(embed_images(clip, {&image, 1})[0]);
          captions.push_back(embed_captions(clip, {&batch.texts[static_cast<size_t>(i)], 1})[0]);
        }
        return {{"texts", batch.texts},
                {"images", tensor_record(torch::stack(images))},
                {"captions", tensor_record(torch::stack(captions))}};
      },
      kMaxRetrieved);
  return {.texts = joined<std::string>(records, "texts"),
          .images = joined_tensors(records, "images"),
          .captions = joined_tensors(records, "captions")};
}

/// Adds how often the contrastive model finds the caption of an image, and the image of a caption.
/// @return  captions with different tokens, in order
std::vector<std::string> add_retrieval(const TrainedClip& clip, const Embeddings& embeddings,
                                       ordered_json& numbers) {
  std::vector<std::string> captions;
  std::map<std::vector<int64_t>, int64_t> label_of;  // by the caption's tokens
  std::vector<int64_t> labels;
  for (const std::string& text : embeddings.texts) {
    const auto [entry, is_new] =
        label_of.try_emplace(clip.encode(text), static_cast<int64_t>(label_of.size()));
    if (is_new) captions.push_back(text);
    labels.push_back(entry->second);
  }
  const auto count = static_cast<int64_t>(labels.size());
  const at::Tensor similarity = at::matmul(embeddings.images, embeddings.captions.t());  // [N, N]
  numbers["images"] = count;
  for (const auto& [name, share] :
       retrieval_shares(similarity, torch::tensor(labels, torch::kLong)))
    numbers[name] = number_of(wilson_interval(share * static_cast<double>(count), count));
  return captions;
}

/// Generates images of each caption, scores and judges them.
/// @return  by caption, then by the image's number
std::vector<std::vector<JudgedCandidate>> judge_candidates(const EvaluatedModel& model,
                                                           Reranker& reranker,
                                                           const std::vector<std::string>& captions,
                                                           const SuitePhase& named,
                                                           ChunkedWork& work) {
  ChunkedPhase phase = generation_phase(model, work, std::ssize(captions), kMostImages);
  phase.what = named.what();
  phase.folder = named.folder();
  const auto records = work.records(phase, [&](const Chunk& chunk) -> ordered_json {
    const TrainedDalle& dalle = *model.dalle;
    const std::string& caption = captions[static_cast<size_t>(chunk.begin)];
    const auto codes = generate_chunk(
        model, {{.caption = caption_tokens(dalle, caption), .count = kMostImages}}, chunk);
    std::vector<double> scores;
    std::vector<bool> exact;
    for (const at::Tensor& code : codes) {
      const RgbImage image = decode_image(dalle.vae, code);
      scores.push_back(reranker.score(caption, code, image));
      exact.push_back(judge_image(caption, image).exact);
    }
    return {{"scores", scores}, {"exact", exact}};
  });
  std::vector<std::vector<JudgedCandidate>> images;
  for (const ordered_json& record : records) {
    auto& of_caption = images.emplace_back();
    for (size_t i = 0; i < record.at("scores").size(); ++i)
      of_caption.push_back({.score = record.at("scores")[i].get<double>(),
                            .exact = record.at("exact")[i].get<bool>()});
  }
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
                              const std::filesystem::path& contrastive, ChunkedWork& work) {
  const torch::NoGradGuard no_grad;
  const c10::Device device = device_of(*model.vae);
  TrainedClip clip = load_trained_clip(contrastive, device, Precision::kFloat32);
  require_readable(clip, model.config.data.image_size, model.checkpoint);
  const SuitePhase images = phase_of("image tokens", clip.hash);
  ordered_json numbers{{"reranker", clip.hash}};
  std::vector<std::string> captions = add_retrieval(clip, embed(clip, data, work), numbers);
  if (model.config.data.kind != DatasetKind::kShapes) return numbers;
  captions.resize(std::min(captions.size(), kMaxRankedCaptions));
  const std::unique_ptr<Reranker> reranker = make_clip_reranker(*model.dalle, std::move(clip));
  numbers.update(best_of_numbers(judge_candidates(model, *reranker, captions, images, work)));
  return numbers;
}

}  // namespace dalle
