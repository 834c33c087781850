#include "dalle/train/experiment_data.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/core/is_blank.h"
#include "dalle/core/log.h"
#include "dalle/core/progress.h"
#include "dalle/core/seeds.h"
#include "dalle/data/batch_loader.h"
#include "dalle/data/fingerprint.h"

namespace dalle {
namespace {

/// What the bad ones among the validation samples are a fraction of. A few samples that were parted
/// from the training set are too few to judge by: one bad picture must not end the run.
int64_t judged_with_validation(const DataConfig& config, const DatasetPair& datasets) {
  const bool is_part = config.kind != DatasetKind::kShapes && config.validation_path.empty();
  return datasets.validation->size() + (is_part ? datasets.train->size() : 0);
}

/// A list of skipped samples of every rank but this one.
std::vector<std::filesystem::path> lists_of_others(const RunPaths& run, int64_t ranks,
                                                   std::filesystem::path (RunPaths::*list)()
                                                       const) {
  std::vector<std::filesystem::path> paths;
  for (int64_t rank = 0; rank < ranks; ++rank)
    if (rank != run.rank) paths.push_back((RunPaths(run.root, rank).*list)());
  return paths;
}

}  // namespace

ExperimentData::ExperimentData(const ExperimentConfig& config, const RunPaths& run, int64_t ranks)
    : datasets_(open_datasets(config.data, static_cast<uint64_t>(config.seed))),
      identity_(fmt::format("training: {}\nvalidation: {}\n", fingerprint(*datasets_.train),
                            fingerprint(*datasets_.validation))),
      skipped_train_(run.skipped(), datasets_.train->size(), config.data.max_bad_fraction,
                     lists_of_others(run, ranks, &RunPaths::skipped)),
      skipped_validation_(run.skipped_validation(), judged_with_validation(config.data, datasets_),
                          config.data.max_bad_fraction,
                          lists_of_others(run, ranks, &RunPaths::skipped_validation)) {}

SampleStreamOptions stream_options(const ExperimentConfig& config) {
  return {.seed = static_cast<uint64_t>(config.seed),
          .image_size = config.data.image_size,
          .background = static_cast<uint8_t>(config.data.background),
          .caption_length = config.layout().max_caption_tokens()};
}

SampleStreamOptions validation_options(const ExperimentConfig& config) {
  SampleStreamOptions options = stream_options(config);
  options.shuffle = false;
  options.crop = CropKind::kCenter;
  return options;
}

at::Generator initial_weights_generator(const ExperimentConfig& config, uint64_t stage) {
  return at::make_generator<at::CPUGeneratorImpl>(
      derive_seed(static_cast<uint64_t>(config.seed), SeedPurpose::kModelInit, stage));
}

void require_captions(const Dataset& dataset, double max_bad_fraction) {
  constexpr int64_t kMostLookedAt = 256;
  constexpr double kSamplingError = 0.1;  // three standard deviations of a share of so many
  const int64_t looked_at = std::min(dataset.size(), kMostLookedAt);
  int64_t missing = 0;
  std::string first;
  for (int64_t i = 0; i < looked_at; ++i) {
    const int64_t index = i * dataset.size() / looked_at;
    std::string reason;
    try {
      const std::vector<std::string> captions = dataset.captions(index);
      if (!std::ranges::all_of(captions, is_blank)) continue;
      if (missing == 0) reason = dataset.missing_caption(index);
    } catch (const Error& error) {
      reason = error.what();
    } catch (const std::system_error& error) {
      reason = error.what();
    }
    if (missing++ == 0) first = fmt::format("{}: {}", dataset.key(index), reason);
  }
  const double allowed = max_bad_fraction + (looked_at < dataset.size() ? kSamplingError : 0);
  if (missing > 0 && (missing == looked_at ||
                      static_cast<double>(missing) > allowed * static_cast<double>(looked_at)))
    throw Error(
        "{} of {} training samples that were looked at have no valid caption, for example {}; "
        "images without captions train the dVAE alone (--stage dvae)",
        missing, looked_at, first);
}

bool for_each_evaluation_batch(const SampleStream& stream, const TrainConfig& train,
                               const DataConfig& data,
                               const std::function<void(const Batch&)>& use) {
  const int64_t samples = std::min(train.eval_samples, stream.order().size());
  const int64_t at_once = train.micro_batch_size > 0 ? train.micro_batch_size : train.batch_size;
  BatchLoader loader([&](int64_t position) { return stream.at(position); },
                     {.batch_size = std::min(at_once, samples),
                      .workers = data.workers,
                      .prefetch = data.prefetch,
                      .end_position = samples});
  Progress progress("evaluating samples", samples);
  int64_t done = 0;
  try {
    for (Batch batch = loader.next(); batch.size() > 0; batch = loader.next()) {
      use(batch);
      done += batch.size();
      progress.update(done);
    }
  } catch (const NoUsableSample& error) {
    log_warning("skipping the evaluation, because there is nothing to evaluate: {}", error.what());
    return false;
  }
  return true;
}

Batch first_samples(const SampleStream& stream, int64_t count) {
  std::vector<Sample> samples;
  try {
    for (int64_t position = 0; position < std::min(count, stream.order().size()); ++position)
      samples.push_back(stream.at(position));
  } catch (const NoUsableSample&) {
    return {};
  }
  return stack(samples);
}

at::Tensor unit_images(const Batch& batch, c10::Device device) {
  return batch.images.to(device).to(torch::kFloat32).div_(255);
}

}  // namespace dalle
