#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>
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
#include "sample/caption_images.h"
#include "sample/decode_image.h"
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

/// Compares images with captions, by a contrastive model. Thread-safe.
class CaptionJudge {
 public:
  CaptionJudge(TrainedClip clip, const std::vector<std::string>& captions)
      : clip_(std::move(clip)) {
    std::vector<at::Tensor> embeddings;  // one at a time, so that equal captions have equal bits
    for (const std::string& caption : captions)
      embeddings.push_back(embed_captions(clip_, {&caption, 1})[0]);
    captions_ = torch::stack(embeddings);
    same_ = captions_.unsqueeze(0).eq(captions_.unsqueeze(1)).all(-1);
  }

  /// [E], of one image: rounding may depend on how many there are.
  at::Tensor embed(const RgbImage& image) { return embed_images(clip_, {&image, 1})[0]; }

  /// How similar an image is to the caption at `index`.
  /// @param image  of embed()
  double similarity(int64_t index, const at::Tensor& image) const {
    return at::dot(captions_[index], image).item<double>();
  }

  /// Whether the most similar caption is the one at `index`, or one with the same embedding.
  /// @param image  of embed()
  bool finds(int64_t index, const at::Tensor& image) const {
    return is_most_similar(at::mv(captions_, image), index, same_[index]);
  }

 private:
  TrainedClip clip_;
  at::Tensor captions_;  // [captions, E]
  at::Tensor same_;      // [captions, captions] bool
};

/// What scores and judges generated images. Thread-safe.
struct Judges {
  CaptionJudge clip;                   ///< scores
  std::optional<CaptionJudge> finder;  ///< finds the captions; nothing: `clip` does
  /// Null if the transformer was trained without caption_dropout.
  std::unique_ptr<Reranker> likelihood;
  bool knows_scenes = false;
};

ordered_json judge_candidate(Judges& judges, const std::vector<std::string>& captions,
                             int64_t index, const at::Tensor& codes, const RgbImage& image) {
  const std::string& caption = captions[static_cast<size_t>(index)];
  const at::Tensor embedding = judges.clip.embed(image);
  ordered_json record{
      {"score", finite_score(caption, judges.clip.similarity(index, embedding))},
      {"retrieved", judges.finder ? judges.finder->finds(index, judges.finder->embed(image))
                                  : judges.clip.finds(index, embedding)}};
  if (judges.likelihood) record["likelihood"] = judges.likelihood->score(caption, codes, image);
  if (judges.knows_scenes) record["exact"] = judge_image(caption, image).exact;
  return record;
}

template <class Value>
std::optional<Value> optional_in(const ordered_json& record, const char* name) {
  return record.contains(name) ? std::optional(record.at(name).get<Value>()) : std::nullopt;
}

/// Generates images of each caption, scores and judges them.
/// @return  by caption, then by the image's number
std::vector<std::vector<JudgedCandidate>> judge_candidates(const EvaluatedModel& model,
                                                           Judges& judges,
                                                           const std::vector<std::string>& captions,
                                                           const SuitePhase& named,
                                                           ChunkedWork& work) {
  const ChunkedPhase phase =
      generation_phase(named, model, work, std::ssize(captions), kMostImages);
  const auto records = work.records(phase, [&](const Chunk& chunk) {
    const TrainedDalle& dalle = *model.dalle;
    const std::string& caption = captions[static_cast<size_t>(chunk.begin)];
    const CaptionImages request{.caption = caption_tokens(dalle, caption), .count = kMostImages};
    const auto codes = generate_chunk(model, {&request, 1}, chunk);
    auto of_caption = ordered_json::array();
    for (const at::Tensor& code : codes)
      of_caption.push_back(
          judge_candidate(judges, captions, chunk.begin, code, decode_image(dalle.vae, code)));
    return of_caption;
  });
  std::vector<std::vector<JudgedCandidate>> images;
  for (const ordered_json& record : records) {
    auto& of_caption = images.emplace_back();
    for (const ordered_json& image : record)
      of_caption.push_back({.score = image.at("score").get<double>(),
                            .likelihood = optional_in<double>(image, "likelihood"),
                            .retrieved = image.at("retrieved").get<bool>(),
                            .exact = optional_in<bool>(image, "exact")});
  }
  return images;
}

bool is_judged_exact(const JudgedCandidate& image) {
  return image.exact.value_or(false);
}

/// Adds how often the top-ranked of the first images is retrieved or exact.
/// @param score   what ranks images
/// @param suffix  of the numbers' names
template <class Score>
void add_selected(std::span<const std::vector<JudgedCandidate>> images, const Score& score,
                  const std::string& suffix, ordered_json& numbers) {
  const auto total = static_cast<int64_t>(images.size());
  for (const int64_t count : kImages) {
    if (count == 1 && !suffix.empty()) continue;  // the same image
    double retrieved = 0, exact = 0;
    for (const auto& of_caption : images) {
      const auto best =
          std::ranges::max_element(of_caption.begin(), of_caption.begin() + count, {}, score);
      retrieved += best->retrieved ? 1 : 0;
      exact += is_judged_exact(*best) ? 1 : 0;
    }
    if (total > 1)
      numbers[fmt::format("retrieved_of_{}{}", count, suffix)] =
          number_of(wilson_interval(retrieved, total));
    if (images.front().front().exact)
      numbers[fmt::format("exact_of_{}{}", count, suffix)] =
          number_of(wilson_interval(exact, total));
  }
}

}  // namespace

ordered_json best_of_numbers(std::span<const std::vector<JudgedCandidate>> images) {
  const auto total = static_cast<int64_t>(images.size());
  std::vector<double> first;
  for (const auto& of_caption : images) first.push_back(of_caption.front().score);
  ordered_json numbers{{"captions", total}, {"clip_score", number_of(mean_interval(first))}};
  add_selected(images, &JudgedCandidate::score, "", numbers);
  const JudgedCandidate& known = images.front().front();
  if (known.likelihood)
    add_selected(
        images, [](const JudgedCandidate& image) { return *image.likelihood; }, "_by_likelihood",
        numbers);
  if (!known.exact) return numbers;
  for (const int64_t count : kImages) {
    const auto possible = std::ranges::count_if(images, [&](const auto& of_caption) {
      return std::ranges::any_of(of_caption.begin(), of_caption.begin() + count, is_judged_exact);
    });
    numbers[fmt::format("possible_of_{}", count)] =
        number_of(wilson_interval(static_cast<double>(possible), total));
  }
  return numbers;
}

SuiteResult evaluate_best_of(EvaluatedModel& model, const EvaluationData& data,
                             const SuiteInputs& inputs, ChunkedWork& work) {
  TrainedClip clip =
      load_trained_clip(inputs.contrastive, device_of(*model.vae), Precision::kFloat32);
  require_readable(clip, model.config.data.image_size, model.checkpoint);
  ordered_json numbers{{"reranker", clip.hash}};
  std::vector<std::string> captions = add_retrieval(clip, embed(clip, data, work), numbers);
  captions.resize(std::min(captions.size(), kMaxRankedCaptions));
  const SuitePhase phase = phase_of("image tokens", clip.hash);
  const TrainedDalle& dalle = *model.dalle;
  std::optional<CaptionJudge> finder;
  if (const auto& judge = inputs.extractor.clip; judge && judge->hash != clip.hash)
    finder.emplace(*judge, captions);
  Judges judges{.clip = CaptionJudge(std::move(clip), captions),
                .finder = std::move(finder),
                .likelihood = dalle.config.dalle.train.caption_dropout > 0
                                  ? make_likelihood_reranker(dalle)
                                  : nullptr,
                .knows_scenes = model.config.data.kind == DatasetKind::kShapes};
  numbers.update(best_of_numbers(judge_candidates(model, judges, captions, phase, work)));
  return {.numbers = std::move(numbers)};
}

}  // namespace dalle
