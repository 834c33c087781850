#pragma once

#include <memory>

#include "data/data_config.h"
#include "data/dataset.h"

namespace dalle {

/// The training and validation data of an experiment, which have no sample in common.
struct DatasetPair {
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> validation;
};

/// Opens the data sets of a config. A new kind of data needs a case here.
///
/// Without validation_path, the samples are divided by split_by_key(): each side has at least one,
/// and a single sample is on both sides.
///
/// @param seed  the experiment's seed; procedural scenes depend on it, the split of files does not
/// @throws dalle::Error naming the path if it is missing, of the wrong kind or empty, or if
///         validation_path shares samples with path
DatasetPair open_datasets(const DataConfig& config, uint64_t seed);

}  // namespace dalle
