#pragma once

#include <functional>
#include <string>

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include "data/batch.h"
#include "data/datasets.h"
#include "data/sample_source.h"
#include "data/skipped_samples.h"
#include "experiment/config/experiment_config.h"
#include "model/discrete_vae.h"
#include "train/rank_shares.h"
#include "train/run_folder.h"

namespace dalle {

/// The data of an experiment, opened once and shared by its stages.
class ExperimentData {
 public:
  /// Opens the data set and reads the run's list of skipped samples.
  /// @param ranks  that train together, each with its own lists in the run folder
  ExperimentData(const ExperimentConfig& config, const RunPaths& run, int64_t ranks = 1);

  const Dataset& train() const { return *datasets_.train; }
  const Dataset& validation() const { return *datasets_.validation; }
  /// Identifies these images: fingerprint() of both parts, one line each. Computed once, because
  /// there may be millions of names.
  const std::string& fingerprint() const { return fingerprint_; }
  SkippedSamples& skipped_train() { return skipped_train_; }
  SkippedSamples& skipped_validation() { return skipped_validation_; }

 private:
  DatasetPair datasets_;
  std::string fingerprint_;
  SkippedSamples skipped_train_;
  SkippedSamples skipped_validation_;
};

/// What every stage's samples have in common; the stage adds its crops, its text and its order.
SampleSourceOptions source_options(const ExperimentConfig& config);

/// Options of a source that validates: its samples in their own order, cropped centrally.
SampleSourceOptions validation_options(const ExperimentConfig& config);

/// The generator of the initial weights of a stage.
at::Generator initial_weights_generator(const ExperimentConfig& config, Stage stage);

/// Throws if so many training samples lack a caption that the dalle stage would fail: known at the
/// start rather than after the dVAE's training. In a large data set, only some samples are checked.
///
/// @throws dalle::Error naming a sample and where its caption was searched for
void require_captions(const Dataset& dataset, double max_invalid_fraction);

/// The number that invalid validation samples are a fraction of. The few samples that were split
/// off the training set are too few to judge by: one invalid image must not end the run.
int64_t judged_with_validation(const DataConfig& config, const DatasetPair& datasets);

/// The samples of an evaluation's batch. What training computes at once fits into memory. A large
/// batch would leave ranks without work; the limit of 32 does not depend on their number, which
/// must not change what a batch holds.
int64_t evaluation_batch_size(const TrainConfig& train);

/// Calls `use` with the batches in this rank's share of the first `train.eval_samples` samples of
/// `source`, or all if there are fewer. Which samples a batch holds does not depend on the share.
///
/// @param batch_size  0: evaluation_batch_size()
/// @return false, which is in the log, if not one of them can be used: a few validation samples may
///         all be invalid although few of the whole data set are (SkippedSamples judges that)
bool for_each_evaluation_batch(const SampleSource& source, const TrainConfig& train,
                               const DataConfig& data, const RankShare& share,
                               const std::function<void(int64_t number, const Batch& batch)>& use,
                               int64_t batch_size = 0);

/// The first `count` samples of `source`, or all if there are fewer; none if none can be used.
Batch first_samples(const SampleSource& source, int64_t count);

/// The Gumbel noise of the samples of a batch, which the experiment's seed and their positions
/// determine; see DiscreteVaeImpl::noise().
at::Tensor gumbel_noise(DiscreteVae vae, const Batch& batch, const ExperimentConfig& config);

/// The image tokens of a batch that the transformer models: the most likely codes or, with
/// `dalle.image_tokens: sample`, sampled ones, which the seed and the positions determine.
/// @return [B, N] int64 in [0, K)
at::Tensor image_tokens(DiscreteVae vae, const Batch& batch, const ExperimentConfig& config);

}  // namespace dalle
