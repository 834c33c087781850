#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/log.h"
#include "core/seeds.h"
#include "data/epoch_permutation.h"
#include "data/image/image.h"
#include "data/shapes/shapes_caption.h"
#include "eval/caption_ranking.h"
#include "eval/shapes_match.h"
#include "eval/token_scores.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/stages/experiment_data.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr size_t kOtherCaptions = 15;

/// The last counter of derive_seed(kCaptionRanking, ...).
enum RankingSeed : uint64_t { kOthers = 0, kWordOrder = 1 };

struct RankedCaption {
  std::string text;
  at::Tensor tokens;  ///< [T - 1] int64
};

/// The captions of the ranked images, by the images' positions in the data.
using RankedCaptions = std::map<int64_t, RankedCaption>;

struct RankedImage {
  int64_t position = 0;
  RankedCaption caption;
  at::Tensor codes;                    ///< [N] int64
  std::optional<DetectedScene> scene;  ///< of the data set shapes
};

RankedCaptions captions_to_rank(const EvaluationData& data, ChunkedWork& work) {
  const auto records = data.records(
      work, {"ranking", "captions"},
      [](const Batch& batch) -> ordered_json {
        return {{"positions", batch.positions},
                {"texts", batch.texts},
                {"tokens", tensor_record(batch.captions)}};
      },
      kMaxRankedImages);
  const auto positions = joined<int64_t>(records, "positions");
  const auto texts = joined<std::string>(records, "texts");
  const at::Tensor tokens = joined_tensors(records, "tokens");  // [images, T - 1]
  RankedCaptions captions;
  for (size_t i = 0; i < positions.size(); ++i)
    captions[positions[i]] = {.text = texts[i], .tokens = tokens[static_cast<int64_t>(i)]};
  return captions;
}

std::vector<int64_t> tokens_of(const at::Tensor& caption) {
  const int64_t* first = caption.const_data_ptr<int64_t>();
  return {first, first + caption.numel()};
}

/// Whether the image shows what another caption says, so that neither caption is wrong.
bool shows(const RankedImage& image, const std::string& text) {
  return image.scene && match_shapes(parse_shapes_caption(text), *image.scene).exact;
}

/// Up to kOtherCaptions captions of other images: all different, in tokens, from one another and
/// from that of the image, and none that its scene shows as well.
std::vector<at::Tensor> other_captions(const RankedCaptions& captions, const RankedImage& image,
                                       uint64_t seed) {
  const auto size = static_cast<int64_t>(captions.size());
  const EpochPermutation order(derive_seed(seed, SeedPurpose::kCaptionRanking,
                                           static_cast<uint64_t>(image.position), kOthers),
                               size);
  std::set<std::vector<int64_t>> used = {tokens_of(image.caption.tokens)};
  std::vector<at::Tensor> others;
  for (int64_t next = 0; next < size && others.size() < kOtherCaptions; ++next) {
    const RankedCaption& other = std::next(captions.begin(), order.index(next))->second;
    if (used.insert(tokens_of(other.tokens)).second && !shows(image, other.text))
      others.push_back(other.tokens);
  }
  return others;
}

/// The caption with the same words that is wrong, or at least reads differently; nothing if there
/// is none.
std::optional<std::string> reordered_caption(const RankedImage& image, uint64_t seed) {
  if (image.scene) {
    const std::optional<std::string> swapped = swap_shapes_attributes(image.caption.text);
    return swapped && shows(image, *swapped) ? std::nullopt : swapped;
  }
  SeedStream random(derive_seed(seed, SeedPurpose::kCaptionRanking,
                                static_cast<uint64_t>(image.position), kWordOrder));
  const std::string shuffled = shuffled_words(image.caption.text, random);
  return shuffled.empty() ? std::nullopt : std::optional(shuffled);
}

/// How the captions of an image, its own and others, rank by the probability of its tokens.
ordered_json rank_captions(EvaluatedModel& model, const RankedCaptions& captions,
                           const RankedImage& image) {
  const auto seed = static_cast<uint64_t>(model.config.seed);
  std::vector<at::Tensor> candidates = other_captions(captions, image, seed);
  const size_t others = candidates.size();
  candidates.push_back(image.caption.tokens);
  const std::optional<std::string> reordered = reordered_caption(image, seed);
  if (reordered) candidates.push_back(caption_tokens(*model.dalle, *reordered));
  const std::vector<double> scores =
      image_log_likelihoods(model.dalle->model, image.codes, candidates);
  const double own = scores[others];
  const CaptionRank rank = rank_caption(own, std::span(scores).first(others));
  ordered_json record = {
      {"candidates", others + 1}, {"first", rank.first}, {"reciprocal", rank.reciprocal}};
  if (reordered) record["reordered"] = rank_caption(own, {&scores.back(), 1}).first;
  return record;
}

ordered_json rank_captions(EvaluatedModel& model, const RankedCaptions& captions,
                           const Batch& batch) {
  const bool is_shapes = model.config.data.kind == DatasetKind::kShapes;
  const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
  ordered_json ranks = ordered_json::array();
  for (int64_t i = 0; i < batch.size(); ++i) {
    const int64_t position = batch.positions[static_cast<size_t>(i)];
    RankedImage image{
        .position = position, .caption = captions.at(position), .codes = codes[i], .scene = {}};
    if (is_shapes) image.scene = detect_shapes(tensor_to_image(batch.images[i]));
    ranks.push_back(rank_captions(model, captions, image));
  }
  return {{"ranks", ranks}};
}

/// Totals over images.
struct Ranking {
  std::vector<double> candidates, chances, reciprocals;
  double first = 0;
  double reordered_wins = 0;
  int64_t reordered = 0;

  void add(const ordered_json& rank) {
    if (const auto count = rank.at("candidates").get<double>(); count > 1) {
      candidates.push_back(count);
      chances.push_back(1 / count);
      reciprocals.push_back(rank.at("reciprocal").get<double>());
      first += rank.at("first").get<double>();
    }
    if (!rank.contains("reordered")) return;
    ++reordered;
    reordered_wins += rank.at("reordered").get<double>();
  }
};

ordered_json numbers_of(const Ranking& ranking, const std::string& reordering) {
  const auto images = static_cast<int64_t>(ranking.candidates.size());
  ordered_json numbers{{"images", images}};
  if (images > 0) {
    numbers["candidates"] = number_of(mean_interval(ranking.candidates).value);
    numbers["first"] = number_of(wilson_interval(ranking.first, images));
    numbers["first_by_chance"] = number_of(mean_interval(ranking.chances).value);
    numbers["reciprocal_rank"] = number_of(mean_interval(ranking.reciprocals));
  }
  if (ranking.reordered == 0) return numbers;
  numbers[reordering + "_captions"] = ranking.reordered;
  numbers["preferred_to_" + reordering] =
      number_of(wilson_interval(ranking.reordered_wins, ranking.reordered));
  return numbers;
}

}  // namespace

SuiteResult evaluate_ranking(EvaluatedModel& model, const EvaluationData& data, const SuiteInputs&,
                             ChunkedWork& work) {
  const RankedCaptions captions = captions_to_rank(data, work);
  const auto records = data.records(
      work, {"ranking", "images"},
      [&](const Batch& batch) { return rank_captions(model, captions, batch); }, kMaxRankedImages);
  Ranking ranking;
  for (const auto& rank : joined<ordered_json>(records, "ranks")) ranking.add(rank);
  if (ranking.candidates.size() < captions.size() ||
      std::ranges::min(ranking.candidates) < kOtherCaptions + 1)
    log_warning(
        "ranking: the {} images have too few different captions to compare each with {} others",
        captions.size(), kOtherCaptions);
  return {.numbers = numbers_of(
              ranking, model.config.data.kind == DatasetKind::kShapes ? "swapped" : "shuffled")};
}

}  // namespace dalle
