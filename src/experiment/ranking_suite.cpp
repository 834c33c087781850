#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/log.h"
#include "core/progress.h"
#include "core/seeds.h"
#include "data/epoch_permutation.h"
#include "data/image/image.h"
#include "data/shapes/shapes_caption.h"
#include "eval/caption_ranking.h"
#include "eval/shapes_match.h"
#include "eval/token_scores.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr size_t kOtherCaptions = 15;

/// The last counter of derive_seed(kCaptionRanking, ...).
enum RankingSeed : uint64_t { kOthers = 0, kWordOrder = 1 };

struct RankedImage {
  int64_t position = 0;
  std::string text;
  at::Tensor caption;                  ///< [T - 1] int64
  at::Tensor codes;                    ///< [N] int64
  std::optional<DetectedScene> scene;  ///< of the data set shapes
};

std::vector<RankedImage> images_to_rank(EvaluatedModel& model, const EvaluationData& data,
                                        const CheckStop& check_stop) {
  std::vector<RankedImage> images;
  const bool is_shapes = model.config.data.kind == DatasetKind::kShapes;
  const auto add_batch = [&](const Batch& batch) {
    const at::Tensor codes = image_tokens(model.vae, batch, model.config);  // [B, N]
    for (int64_t i = 0; i < batch.size(); ++i) {
      RankedImage image{.position = batch.positions[static_cast<size_t>(i)],
                        .text = batch.texts[static_cast<size_t>(i)],
                        .caption = batch.captions[i],
                        .codes = codes[i],
                        .scene = {}};
      if (is_shapes) image.scene = detect_shapes(tensor_to_image(batch.images[i]));
      images.push_back(std::move(image));
    }
  };
  data.for_each_batch("ranking: images", check_stop, add_batch, kMaxRankedImages);
  return images;
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
/// from that of image i, and none that its scene shows as well.
std::vector<at::Tensor> other_captions(const std::vector<RankedImage>& images, size_t i,
                                       uint64_t seed) {
  const RankedImage& image = images[i];
  const auto size = static_cast<int64_t>(images.size());
  const EpochPermutation order(derive_seed(seed, SeedPurpose::kCaptionRanking,
                                           static_cast<uint64_t>(image.position), kOthers),
                               size);
  std::set<std::vector<int64_t>> used = {tokens_of(image.caption)};
  std::vector<at::Tensor> others;
  for (int64_t next = 0; next < size && others.size() < kOtherCaptions; ++next) {
    const RankedImage& other = images[static_cast<size_t>(order.index(next))];
    if (used.insert(tokens_of(other.caption)).second && !shows(image, other.text))
      others.push_back(other.caption);
  }
  return others;
}

/// The caption with the same words that is wrong, or at least reads differently; nothing if there
/// is none.
std::optional<std::string> reordered_caption(const RankedImage& image, uint64_t seed) {
  if (image.scene) {
    const std::optional<std::string> swapped = swap_shapes_attributes(image.text);
    return swapped && shows(image, *swapped) ? std::nullopt : swapped;
  }
  SeedStream random(derive_seed(seed, SeedPurpose::kCaptionRanking,
                                static_cast<uint64_t>(image.position), kWordOrder));
  const std::string shuffled = shuffled_words(image.text, random);
  return shuffled.empty() ? std::nullopt : std::optional(shuffled);
}

/// Totals over images.
struct Ranking {
  std::vector<double> candidates, chances, reciprocals;
  double first = 0;
  double reordered_wins = 0;
  int64_t reordered = 0;

  void add(double truth, std::span<const double> others, std::optional<double> reordered_score) {
    if (!others.empty()) {
      const auto count = static_cast<double>(others.size() + 1);
      const CaptionRank rank = rank_caption(truth, others);
      candidates.push_back(count);
      chances.push_back(1 / count);
      reciprocals.push_back(rank.reciprocal);
      first += rank.first;
    }
    if (!reordered_score) return;
    ++reordered;
    reordered_wins += rank_caption(truth, {&*reordered_score, 1}).first;
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

ordered_json evaluate_ranking(EvaluatedModel& model, const EvaluationData& data,
                              const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const auto seed = static_cast<uint64_t>(model.config.seed);
  const std::vector<RankedImage> images = images_to_rank(model, data, check_stop);
  Ranking ranking;
  Progress progress("ranking: captions of images", static_cast<int64_t>(images.size()));
  for (size_t i = 0; i < images.size(); ++i) {
    check_stop();
    std::vector<at::Tensor> captions = other_captions(images, i, seed);
    const size_t others = captions.size();
    captions.push_back(images[i].caption);
    const std::optional<std::string> reordered = reordered_caption(images[i], seed);
    if (reordered) captions.push_back(caption_tokens(*model.dalle, *reordered));
    const std::vector<double> scores =
        image_log_likelihoods(model.dalle->model, images[i].codes, captions);
    ranking.add(scores[others], std::span(scores).first(others),
                reordered ? std::optional(scores.back()) : std::nullopt);
    progress.update(static_cast<int64_t>(i) + 1);
  }
  if (ranking.candidates.size() < images.size() ||
      std::ranges::min(ranking.candidates) < kOtherCaptions + 1)
    log_warning(
        "ranking: the {} images have too few different captions to compare each with {} others",
        images.size(), kOtherCaptions);
  return numbers_of(ranking,
                    model.config.data.kind == DatasetKind::kShapes ? "swapped" : "shuffled");
}

}  // namespace dalle
