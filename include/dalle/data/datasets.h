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
/// @param seed  the experiment's; procedural scenes depend on it, the split of files does not
/// @throws dalle::Error naming the path if it is missing, of the wrong kind, or holds no sample;
/// also if the
///         training side would be empty. The validation side falls back to one sample of at least
///         one where the fraction would leave none, and is the training side itself only when there
///         is one sample in all
DatasetPair open_datasets(const DataConfig& config, uint64_t seed);

}  // namespace dalle
