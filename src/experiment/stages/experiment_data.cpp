#include "experiment/stages/experiment_data.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "core/ascii.h"
#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/seeds.h"
#include "data/batch_loader.h"
#include "data/fingerprint.h"
#include "data/image/image.h"
#include "data/invalid_sample.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

/// The lists of skipped samples of all other ranks.
std::vector<std::filesystem::path> lists_of_others(const RunPaths& run, int64_t ranks,
                                                   std::filesystem::path (RunPaths::*list)()
                                                       const) {
  std::vector<std::filesystem::path> paths;
  for (int64_t rank = 0; rank < ranks; ++rank)
    if (rank != run.rank) paths.push_back((RunPaths(run.root, rank).*list)());
  return paths;
}

}  // namespace

int64_t judged_with_validation(const DataConfig& config, const DatasetPair& datasets) {
  const bool is_part = config.kind != DatasetKind::kShapes && config.validation_path.empty();
  return datasets.validation->size() + (is_part ? datasets.train->size() : 0);
}

ExperimentData::ExperimentData(const ExperimentConfig& config, const RunPaths& run, int64_t ranks)
    : datasets_(open_datasets(config.data, static_cast<uint64_t>(config.seed))),
      fingerprint_(fmt::format("training: {}\nvalidation: {}\n",
                               dalle::fingerprint(*datasets_.train),
                               dalle::fingerprint(*datasets_.validation))),
      skipped_train_(run.skipped(), datasets_.train->size(), config.data.max_invalid_fraction,
                     lists_of_others(run, ranks, &RunPaths::skipped)),
      skipped_validation_(run.skipped_validation(), judged_with_validation(config.data, datasets_),
                          config.data.max_invalid_fraction,
                          lists_of_others(run, ranks, &RunPaths::skipped_validation)) {}

SampleSourceOptions source_options(const ExperimentConfig& config) {
  return {.seed = static_cast<uint64_t>(config.seed),
          .image_size = config.data.image_size,
          .background = static_cast<uint8_t>(config.data.background),
          .caption_length = config.layout().max_caption_tokens()};
}

SampleSourceOptions validation_options(const ExperimentConfig& config) {
  SampleSourceOptions options = source_options(config);
  options.shuffle = false;
  options.crop = CropKind::kCenter;
  return options;
}

at::Generator initial_weights_generator(const ExperimentConfig& config, Stage stage) {
  return at::make_generator<at::CPUGeneratorImpl>(derive_seed(
      static_cast<uint64_t>(config.seed), SeedPurpose::kModelInit, static_cast<uint64_t>(stage)));
}

void require_captions(const Dataset& dataset, double max_invalid_fraction) {
  constexpr int64_t kMaxChecked = 256;
  constexpr double kSamplingError = 0.1;  // three standard deviations of a share of that many
  const int64_t checked = std::min(dataset.size(), kMaxChecked);
  int64_t missing = 0;
  bool is_first_invalid = false;
  std::string first;
  for (int64_t i = 0; i < checked; ++i) {
    const int64_t index = i * dataset.size() / checked;
    bool has_caption = false;
    std::string reason;
    const auto defect = defect_of([&] {
      has_caption = !std::ranges::all_of(dataset.captions(index), is_blank);
      if (!has_caption && missing == 0) reason = dataset.missing_caption(index);
    });
    if (has_caption || missing++ > 0) continue;
    is_first_invalid = defect.has_value();
    first = fmt::format("{}: {}", dataset.key(index), defect.value_or(reason));
  }
  const double allowed = max_invalid_fraction + (checked < dataset.size() ? kSamplingError : 0);
  if (missing > 0 &&
      (missing == checked || static_cast<double>(missing) > allowed * static_cast<double>(checked)))
    throw Error(
        "{} of {} training samples that were checked have no valid caption, for example {}; {}",
        missing, checked, first,
        is_first_invalid ? fmt::format("data.max_invalid_fraction allows {}", max_invalid_fraction)
                         : "images without captions can only train the dVAE (--stage dvae)");
}

int64_t evaluation_batch_size(const TrainConfig& train) {
  constexpr int64_t kMaxBatch = 32;
  return std::min(train.micro_batch_size > 0 ? train.micro_batch_size : train.batch_size,
                  kMaxBatch);
}

bool for_each_evaluation_batch(const SampleSource& source, const TrainConfig& train,
                               const DataConfig& data, const RankShare& share,
                               const std::function<void(int64_t number, const Batch& batch)>& use,
                               int64_t batch_size) {
  const int64_t samples = std::min(train.eval_samples, source.order().size());
  const int64_t size =
      std::min(batch_size > 0 ? batch_size : evaluation_batch_size(train), samples);
  // The loader's batch n is batch number n * world_size + rank of all, the last of which may be
  // smaller.
  const auto position_of = [&](int64_t own) {
    return (own / size * share.world_size + share.rank) * size + own % size;
  };
  int64_t own_samples = 0;
  for (int64_t batch = share.rank; batch * size < samples; batch += share.world_size)
    own_samples += std::min(size, samples - batch * size);
  BatchLoader loader([&](int64_t own) { return source.at(position_of(own)); },
                     {.batch_size = size,
                      .workers = data.workers,
                      .prefetch = data.prefetch,
                      .end_position = own_samples});
  Progress progress("evaluating samples", samples);
  try {
    int64_t number = share.rank;
    for (Batch batch = loader.next(); batch.size() > 0; batch = loader.next()) {
      share.check_stop();
      use(number, batch);
      number += share.world_size;
      progress.update(std::min(number * size, samples));
    }
  } catch (const NoUsableSample& error) {
    log_warning("skipping the evaluation, because there is nothing to evaluate: {}", error.what());
    return false;
  }
  return true;
}

Batch first_samples(const SampleSource& source, int64_t count) {
  std::vector<Sample> samples;
  try {
    for (int64_t position = 0; position < std::min(count, source.order().size()); ++position)
      samples.push_back(source.at(position));
  } catch (const NoUsableSample&) {
    return {};
  }
  return stack(samples);
}

at::Tensor gumbel_noise(DiscreteVae vae, const Batch& batch, const ExperimentConfig& config) {
  std::vector<uint64_t> seeds;
  for (const int64_t position : batch.positions)
    seeds.push_back(derive_seed(static_cast<uint64_t>(config.seed), SeedPurpose::kGumbelNoise,
                                static_cast<uint64_t>(position)));
  return vae->noise(seeds, config.data.image_size, config.data.image_size);
}

at::Tensor image_tokens(DiscreteVae vae, const Batch& batch, const ExperimentConfig& config) {
  const torch::NoGradGuard no_grad;
  const at::Tensor images = unit_images(batch.images, device_of(*vae));
  if (config.dalle.image_tokens == ImageTokens::kArgmax) return vae->encode(images).flatten(1);
  std::vector<uint64_t> seeds;
  for (const int64_t position : batch.positions)
    seeds.push_back(derive_seed(static_cast<uint64_t>(config.seed), SeedPurpose::kGumbelNoise,
                                static_cast<uint64_t>(position), /*stage two=*/1));
  return vae->sample_codes(images, seeds).flatten(1);
}

}  // namespace dalle
