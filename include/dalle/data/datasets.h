#pragma once

#include <memory>

#include "dalle/data/data_config.h"
#include "dalle/data/dataset.h"

namespace dalle {

/// The two sides of an experiment's data; they share no sample.
struct DatasetPair {
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> validation;
};

/// Opens what `config` names: the explicit table of kinds of data.
///
/// Without validation_path the files are parted by split_by_key(): each side has a sample at least,
/// and a single sample is on both.
///
/// @param seed  the experiment's; procedural scenes depend on it, the split of files does not
/// @throws dalle::Error naming the path if it is missing, of the wrong kind, or holds no sample, or
///         if validation_path shares samples with path
DatasetPair open_datasets(const DataConfig& config, uint64_t seed);

}  // namespace dalle
