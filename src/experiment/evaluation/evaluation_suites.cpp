#include "experiment/evaluation/evaluation_suites.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "data/image/image.h"
#include "eval/interval.h"
#include "eval/reconstruction.h"
#include "experiment/stages/experiment_data.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

std::vector<double> differences(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result(a.size());
  std::ranges::transform(a, b, result.begin(), std::minus<>());
  return result;
}

/// Adds the reconstructions with the lowest PSNR, worst first, and their images.
/// @param positions  of the images in the validation data
void add_worst(SuiteResult& result, EvaluatedModel& model, const EvaluationData& data,
               const std::vector<double>& psnr, const std::vector<int64_t>& positions) {
  constexpr size_t kShown = 8;
  std::vector<size_t> order(psnr.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return psnr[i]; });
  ordered_json list = ordered_json::array();
  for (size_t n = 0; n < std::min(order.size(), kShown); ++n) {
    const int64_t position = positions[order[n]];
    const std::string stem = fmt::format("reconstruction-worst-{}", n + 1);
    const std::string original = stem + "-original.png", reconstructed = stem + ".png";
    const at::Tensor images =
        unit_images(data.batch(position, position + 1).value().images, device_of(*model.vae));
    list.push_back({{"image", position},
                    {"psnr", psnr[order[n]]},
                    {"original", original},
                    {"reconstructed", reconstructed}});
    result.images[original] = tensor_to_image(images[0]);
    result.images[reconstructed] = tensor_to_image(model.vae->decode(model.vae->encode(images))[0]);
  }
  result.numbers["worst"] = std::move(list);
}

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

SuiteResult evaluate_reconstruction(EvaluatedModel& model, const EvaluationData& data,
                                    const SuiteInputs&, ChunkedWork& work) {
  const DvaeTrainConfig& train = model.config.dvae.train;
  // A checkpoint of the dalle stage does not record which step its dVAE is of.
  const double temperature = train.temperature.at(model.dalle ? train.steps : model.step);
  const double pixels = 3.0 * std::pow(static_cast<double>(model.config.data.image_size), 2);
  const auto places = static_cast<double>(model.config.layout().image_length());
  const auto records =
      data.records(work, {"reconstruction", "images"}, [&](const Batch& batch) -> ordered_json {
        const at::Tensor images = unit_images(batch.images, device_of(*model.vae));
        const DvaeEvaluation found =
            model.vae->evaluate(images, {gumbel_noise(model.vae, batch, model.config), temperature,
                                         /*kl_weight=*/1});
        const auto psnr_of = [&](const at::Tensor& decoded) {
          return doubles_of(psnr(images, decoded).clamp_max(kFlawlessPsnr));
        };
        const Similarity similarity = structural_similarity(images, found.hard_images);
        const auto size = static_cast<double>(batch.size());
        ordered_json record = {
            {"positions", batch.positions},
            {"psnr", psnr_of(found.hard_images)},
            {"psnr_soft", ordered_json::array()},
            {"ssim", doubles_of(similarity.single_scale)},
            {"ms_ssim", doubles_of(similarity.multi_scale)},
            {"nll", std::vector{found.loss.reconstruction.item<double>() * size}},
            {"kl", ordered_json::array()}};
        if (found.soft_images.defined()) record["psnr_soft"] = psnr_of(found.soft_images);
        if (found.loss.kl.defined()) record["kl"].push_back(found.loss.kl.item<double>() * size);
        return record;
      });
  const auto hard = joined<double>(records, "psnr"), soft = joined<double>(records, "psnr_soft");
  const auto positions = joined<int64_t>(records, "positions");
  const auto mean_of_batches = [&](const char* key) {
    const auto sums = joined<double>(records, key);
    return std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(hard.size());
  };
  const double nll = mean_of_batches("nll"), kl = mean_of_batches("kl");
  const auto worst = std::ranges::min_element(hard) - hard.begin();
  SuiteResult result;
  result.numbers = {{"images", hard.size()},
                    {"psnr", number_of(mean_interval(hard))},
                    {"psnr_worst", number_of(hard[static_cast<size_t>(worst)])},
                    {"worst_image", positions[static_cast<size_t>(worst)]},
                    {"ssim", number_of(mean_interval(joined<double>(records, "ssim")))},
                    {"ms_ssim", number_of(mean_interval(joined<double>(records, "ms_ssim")))},
                    {"ms_ssim_scales", similarity_scales(model.config.data.image_size)}};
  const bool has_posterior = !soft.empty();
  if (has_posterior) {
    result.numbers["psnr_soft"] = number_of(mean_interval(soft));
    result.numbers["soft_hard_gap"] = number_of(mean_interval(differences(soft, hard)));
  }
  result.numbers["nll_nats_per_dimension"] = number_of(nll);
  if (has_posterior) {
    result.numbers["kl_nats_per_position"] = number_of(kl);
    result.numbers["negative_elbo_nats_per_dimension"] = number_of(nll + kl * places / pixels);
  }
  add_worst(result, model, data, hard, positions);
  return result;
}

SuiteResult evaluate_codes(EvaluatedModel& model, const EvaluationData& data, const SuiteInputs&,
                           ChunkedWork& work) {
  const int64_t vocab_size = model.config.dvae.model.vocab_size;
  const auto records =
      data.records(work, {"codes", "images"}, [&](const Batch& batch) -> ordered_json {
        const at::Tensor images = unit_images(batch.images, device_of(*model.vae));
        const at::Tensor codes = model.vae->encode(images);  // [B, h, w]
        const at::Tensor shifted = model.vae->encode(shift_right(images));
        return {{"codes", codes_record(codes)},
                {"flips", doubles_of(codes.ne(shifted).to(at::kDouble).sum({1, 2}))}};
      });
  at::Tensor counts;  // [h w, K]
  for (const ordered_json& record : records) {
    const at::Tensor codes = recorded_tensor(record.at("codes")).to(at::kLong);
    const at::Tensor found = position_code_counts(codes, vocab_size);
    counts = counts.defined() ? counts.add_(found) : found;
  }
  const auto flips = joined<double>(records, "flips");
  const std::vector<double> positions(flips.size(), static_cast<double>(counts.size(0)));
  const CodebookHealth health = codebook_health(counts.sum(0));
  const at::Tensor entropy = position_entropy(counts) / std::numbers::ln2;  // [h w]
  const auto tokens = static_cast<double>(counts.sum().item<int64_t>());
  return {.numbers = {{"images", flips.size()},
                      {"tokens_per_code", number_of(tokens / static_cast<double>(vocab_size))},
                      {"used_fraction", number_of(health.used_share)},
                      {"perplexity", number_of(health.perplexity)},
                      {"perplexity_over_codes",
                       number_of(health.perplexity / static_cast<double>(vocab_size))},
                      {"flip_rate", number_of(clustered_proportion(flips, positions))},
                      {"entropy_bits", number_of(entropy.mean().item<double>())},
                      {"entropy_bits_by_position", doubles_of(entropy)},
                      {"counts_by_rank", counts_by_rank(counts.sum(0))}}};
}

}  // namespace dalle
