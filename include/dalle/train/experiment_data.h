#pragma once

#include <functional>
#include <string>

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include "dalle/data/batch.h"
#include "dalle/data/datasets.h"
#include "dalle/data/sample_stream.h"
#include "dalle/data/skipped_samples.h"
#include "dalle/train/experiment_config.h"
#include "dalle/train/run_folder.h"

namespace dalle {

/// The data of an experiment, opened once and shared by its stages.
class ExperimentData {
 public:
  /// Opens the data set and reads the run's list of skipped samples.
  /// @param ranks  that train together, each with lists of its own in the run folder
  ExperimentData(const ExperimentConfig& config, const RunPaths& run, int64_t ranks = 1);

  const Dataset& train() const { return *datasets_.train; }
  const Dataset& validation() const { return *datasets_.validation; }
  /// What tells these pictures from others: fingerprint() of both sides, a line each. Computed
  /// once, for there may be millions of names.
  const std::string& identity() const { return identity_; }
  SkippedSamples& skipped_train() { return skipped_train_; }
  SkippedSamples& skipped_validation() { return skipped_validation_; }

 private:
  DatasetPair datasets_;
  std::string identity_;
  SkippedSamples skipped_train_;
  SkippedSamples skipped_validation_;
};

/// What every stage's samples have in common; the stage adds its crops, its text and its order.
SampleStreamOptions stream_options(const ExperimentConfig& config);

/// Options of a stream that validates: its samples in their own order, cropped centrally.
SampleStreamOptions validation_options(const ExperimentConfig& config);

/// The generator that the weights of stage 1 (dVAE) or 2 (transformer) are drawn from.
at::Generator initial_weights_generator(const ExperimentConfig& config, uint64_t stage);

/// Throws if so many training samples lack a caption that the stage dalle would end over it: known
/// at the start, and not after the dVAE's training. Of a large data set some samples are looked at.
///
/// @throws dalle::Error naming a sample and where its caption was looked for
void require_captions(const Dataset& dataset, double max_bad_fraction);

/// Calls `use` with the first `train.eval_samples` samples of `stream`, or all if there are fewer,
/// in batches of the size that training computes at once.
///
/// @return false, which is in the log, if not one of them can be used: a few validation samples may
///         all be invalid although few of the whole data set are (SkippedSamples judges that)
bool for_each_evaluation_batch(const SampleStream& stream, const TrainConfig& train,
                               const DataConfig& data,
                               const std::function<void(const Batch&)>& use);

/// The first `count` samples of `stream`, or all if there are fewer; none if none can be used.
Batch first_samples(const SampleStream& stream, int64_t count);

/// [B, 3, S, S] float32 in [0, 1] on `device`
at::Tensor unit_images(const Batch& batch, c10::Device device);

}  // namespace dalle
