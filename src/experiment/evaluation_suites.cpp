#include "experiment/evaluation_suites.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/progress.h"
#include "data/image/image.h"
#include "eval/interval.h"
#include "eval/reconstruction.h"
#include "experiment/experiment_data.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxGeneratedUnlessLimited = 1000;

void append(std::vector<double>& values, const at::Tensor& more) {
  const at::Tensor doubles = more.to(at::kCPU, at::kDouble).contiguous();
  const double* first = doubles.const_data_ptr<double>();
  values.insert(values.end(), first, first + doubles.numel());
}

c10::Device device_of(const DiscreteVae& vae) {
  return vae->parameters().front().device();
}

std::vector<double> differences(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result(a.size());
  std::ranges::transform(a, b, result.begin(), std::minus<>());
  return result;
}

/// The reconstructions with the lowest PSNR.
class WorstReconstructions {
 public:
  /// @param images, reconstructions  [B, 3, H, W] in [0, 1]
  /// @param psnr                     [B] float64
  void add(const Batch& batch, const at::Tensor& images, const at::Tensor& reconstructions,
           const at::Tensor& psnr) {
    for (int64_t i = 0; i < batch.size(); ++i) {
      const double quality = psnr[i].item<double>();
      if (worst_.size() == kShown && quality >= worst_.back().psnr) continue;
      const auto place = std::ranges::upper_bound(worst_, quality, {}, &Reconstruction::psnr);
      worst_.insert(place, {.index = batch.positions[static_cast<size_t>(i)],
                            .psnr = quality,
                            .original = tensor_to_image(images[i]),
                            .reconstructed = tensor_to_image(reconstructions[i])});
      if (worst_.size() > kShown) worst_.pop_back();
    }
  }

  /// Adds the list, worst first, and its images.
  void write(SuiteResult& result) {
    ordered_json list = ordered_json::array();
    for (Reconstruction& one : worst_) {
      const std::string stem = fmt::format("reconstruction-worst-{}", list.size() + 1);
      const std::string original = stem + "-original.png", reconstructed = stem + ".png";
      list.push_back({{"image", one.index},
                      {"psnr", one.psnr},
                      {"original", original},
                      {"reconstructed", reconstructed}});
      result.images[original] = std::move(one.original);
      result.images[reconstructed] = std::move(one.reconstructed);
    }
    result.numbers["worst"] = std::move(list);
  }

 private:
  static constexpr size_t kShown = 8;

  struct Reconstruction {
    int64_t index;
    double psnr;
    RgbImage original, reconstructed;
  };
  std::vector<Reconstruction> worst_;
};

/// How often the codes occur, most frequent first, for a chart: of a large codebook, the codes at
/// evenly spaced ranks from the first to the last.
/// @param counts  [K] int64
std::vector<int64_t> counts_by_rank(const at::Tensor& counts) {
  constexpr int64_t kMaxRanks = 512;
  const at::Tensor sorted = std::get<0>(counts.sort(/*dim=*/0, /*descending=*/true));
  const int64_t ranks = std::min(counts.numel(), kMaxRanks);
  std::vector<int64_t> result;
  for (int64_t i = 0; i < ranks; ++i)
    result.push_back(
        sorted[ranks == 1 ? 0 : i * (counts.numel() - 1) / (ranks - 1)].item<int64_t>());
  return result;
}

}  // namespace

ordered_json number_of(double value) {
  return {{"value", value}};
}

ordered_json number_of(const Interval& interval) {
  if (!std::isfinite(interval.high)) return number_of(interval.value);
  return {{"value", interval.value}, {"low", interval.low}, {"high", interval.high}};
}

EvaluationData::EvaluationData(const EvaluatedModel& model, int64_t limit)
    : EvaluationData(model, limit,
                     open_datasets(model.config.data, static_cast<uint64_t>(model.config.seed))) {}

EvaluationData::EvaluationData(const EvaluatedModel& model, int64_t limit,
                               std::unique_ptr<Dataset> validation)
    : EvaluationData(model, limit,
                     DatasetPair{.train = nullptr, .validation = std::move(validation)}) {}

EvaluationData::EvaluationData(const EvaluatedModel& model, int64_t limit, DatasetPair datasets)
    : datasets_(std::move(datasets)) {
  const Dataset& validation = *datasets_.validation;
  if (validation.size() == 0)
    throw Error("data: the validation set is empty, expected at least one image");
  size_ = limit > 0 ? std::min(limit, validation.size()) : validation.size();
  const TrainConfig& train = model.dalle ? static_cast<const TrainConfig&>(model.config.dalle.train)
                                         : static_cast<const TrainConfig&>(model.config.dvae.train);
  batch_size_ = evaluation_batch_size(train);
  skipped_ = std::make_unique<SkippedSamples>(std::filesystem::path(),
                                              judged_with_validation(model.config.data, datasets_),
                                              model.config.data.max_invalid_fraction);
  SampleSourceOptions options = validation_options(model.config);
  options.with_caption = model.dalle.has_value();
  source_ = std::make_unique<SampleSource>(
      validation, model.dalle ? &model.dalle->tokenizer : nullptr, *skipped_, options);
  images_to_generate_ = limit > 0 ? size_ : std::min(size_, kMaxGeneratedUnlessLimited);
  if (datasets_.train == nullptr) return;
  skipped_training_ = std::make_unique<SkippedSamples>(
      std::filesystem::path(), datasets_.train->size(), model.config.data.max_invalid_fraction);
  options.with_caption = false;
  options.shuffle = true;
  training_source_ = std::make_unique<SampleSource>(*datasets_.train, /*tokenizer=*/nullptr,
                                                    *skipped_training_, options);
}

void EvaluationData::for_each_batch(const std::string& what, const CheckStop& check_stop,
                                    const std::function<void(const Batch&)>& use,
                                    int64_t limit) const {
  for_each_batch_of(*source_, std::min(limit, size_), what, check_stop, use);
}

void EvaluationData::for_each_training_batch(const std::string& what, const CheckStop& check_stop,
                                             const std::function<void(const Batch&)>& use,
                                             int64_t limit) const {
  for_each_batch_of(*training_source_, std::min(limit, datasets_.train->size()), what, check_stop,
                    use);
}

RgbImage EvaluationData::training_image(int64_t position) const {
  return tensor_to_image(training_source_->at(position).image);
}

std::string EvaluationData::training_key(int64_t position) const {
  return datasets_.train->key(training_source_->order().index(position));
}

void EvaluationData::for_each_batch_of(const SampleSource& source, int64_t count,
                                       const std::string& what, const CheckStop& check_stop,
                                       const std::function<void(const Batch&)>& use) const {
  Progress progress(what, count);
  bool any = false;
  for (int64_t begin = 0; begin < count; begin += batch_size_) {
    check_stop();
    const int64_t end = std::min(begin + batch_size_, count);
    std::vector<Sample> samples;
    for (int64_t i = begin; i < end; ++i)
      if (std::optional<Sample> sample = source.unreplaced(i))
        samples.push_back(std::move(*sample));
    if (!samples.empty()) use(stack(samples));
    any |= !samples.empty();
    progress.update(end);
  }
  if (!any) throw Error("{}: none of the first {} samples can be used", what, count);
}

bool EvaluationData::captions_differ() const {
  std::optional<std::string> first;
  for (int64_t i = 0; i < std::min(size_, kMaxRankedImages); ++i)
    if (const std::optional<Sample> sample = source_->unreplaced(i)) {
      if (first && sample->text != *first) return true;
      first = sample->text;
    }
  return false;
}

SuiteResult evaluate_reconstruction(EvaluatedModel& model, const EvaluationData& data,
                                    const CheckStop& check_stop) {
  const DvaeTrainConfig& train = model.config.dvae.train;
  // A checkpoint of the stage dalle does not record which step its dVAE is of.
  const double temperature = train.temperature.at(model.dalle ? train.steps : model.step);
  const double pixels = 3.0 * std::pow(static_cast<double>(model.config.data.image_size), 2);
  const auto positions = static_cast<double>(model.config.layout().image_length());
  std::vector<double> hard, soft, similarity, multi_scale;
  std::vector<int64_t> indices;
  WorstReconstructions worst_images;
  double reconstruction = 0, kl = 0;
  data.for_each_batch("reconstruction: images", check_stop, [&](const Batch& batch) {
    const at::Tensor images = unit_images(batch, device_of(model.vae));
    const DvaeEvaluation found =
        model.vae->evaluate(images, gumbel_noise(model.vae, batch, model.config), temperature,
                            /*kl_weight=*/1);
    const at::Tensor quality = psnr(images, found.hard_images).clamp_max(kFlawlessPsnr);  // [B]
    append(hard, quality);
    worst_images.add(batch, images, found.hard_images, quality);
    if (found.soft_images.defined())
      append(soft, psnr(images, found.soft_images).clamp_max(kFlawlessPsnr));
    const Similarity similarities = structural_similarity(images, found.hard_images);
    append(similarity, similarities.single_scale);
    append(multi_scale, similarities.multi_scale);
    indices.insert(indices.end(), batch.positions.begin(), batch.positions.end());
    reconstruction += found.loss.reconstruction.item<double>() * static_cast<double>(batch.size());
    if (found.loss.kl.defined())
      kl += found.loss.kl.item<double>() * static_cast<double>(batch.size());
  });
  const auto count = static_cast<double>(hard.size());
  const double nats = reconstruction / count + kl / count * positions / pixels;
  const auto worst = std::ranges::min_element(hard) - hard.begin();
  SuiteResult result;
  result.numbers = {{"images", hard.size()},
                    {"psnr", number_of(mean_interval(hard))},
                    {"psnr_worst", number_of(hard[static_cast<size_t>(worst)])},
                    {"worst_image", indices[static_cast<size_t>(worst)]},
                    {"ssim", number_of(mean_interval(similarity))},
                    {"ms_ssim", number_of(mean_interval(multi_scale))},
                    {"ms_ssim_scales", similarity_scales(model.config.data.image_size)}};
  const bool has_posterior = !soft.empty();
  if (has_posterior) {
    result.numbers["psnr_soft"] = number_of(mean_interval(soft));
    result.numbers["soft_hard_gap"] = number_of(mean_interval(differences(soft, hard)));
  }
  result.numbers["nll_nats_per_dimension"] = number_of(reconstruction / count);
  if (has_posterior) {
    result.numbers["kl_nats_per_position"] = number_of(kl / count);
    result.numbers["negative_elbo_nats_per_dimension"] = number_of(nats);
  }
  worst_images.write(result);
  return result;
}

ordered_json evaluate_codes(EvaluatedModel& model, const EvaluationData& data,
                            const CheckStop& check_stop) {
  const int64_t vocab_size = model.config.dvae.model.vocab_size;
  at::Tensor counts;  // [h w, K]
  std::vector<double> flips, positions;
  data.for_each_batch("codes: images", check_stop, [&](const Batch& batch) {
    const at::Tensor images = unit_images(batch, device_of(model.vae));
    const at::Tensor codes = model.vae->encode(images);  // [B, h, w]
    append(flips, codes.ne(model.vae->encode(shift_right(images))).to(at::kDouble).sum({1, 2}));
    positions.resize(flips.size(), static_cast<double>(codes[0].numel()));
    const at::Tensor found = position_code_counts(codes.cpu(), vocab_size);
    counts = counts.defined() ? counts + found : found;
  });
  const CodebookHealth health = codebook_health(counts.sum(0));
  const at::Tensor entropy = position_entropy(counts) / std::numbers::ln2;  // [h w]
  std::vector<double> entropies;
  append(entropies, entropy);
  const auto tokens = static_cast<double>(counts.sum().item<int64_t>());
  return {{"images", flips.size()},
          {"tokens_per_code", number_of(tokens / static_cast<double>(vocab_size))},
          {"used_fraction", number_of(health.used_share)},
          {"perplexity", number_of(health.perplexity)},
          {"perplexity_over_codes", number_of(health.perplexity / static_cast<double>(vocab_size))},
          {"flip_rate", number_of(clustered_proportion(flips, positions))},
          {"entropy_bits", number_of(entropy.mean().item<double>())},
          {"entropy_bits_by_position", entropies},
          {"counts_by_rank", counts_by_rank(counts.sum(0))}};
}

}  // namespace dalle
