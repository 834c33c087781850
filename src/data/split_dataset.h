#pragma once

#include <memory>
#include <vector>

#include "data/dataset.h"

namespace dalle {

/// A view of some samples of another data set, in the order of `indices`.
class SplitDataset final : public Dataset {
 public:
  SplitDataset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices);

  int64_t size() const override { return std::ssize(indices_); }
  RawSample get(int64_t index) const override { return dataset_->get(index_in_dataset(index)); }
  std::string key(int64_t index) const override { return dataset_->key(index_in_dataset(index)); }
  std::vector<std::string> captions(int64_t index) const override {
    return dataset_->captions(index_in_dataset(index));
  }
  std::string missing_caption(int64_t index) const override {
    return dataset_->missing_caption(index_in_dataset(index));
  }

 private:
  int64_t index_in_dataset(int64_t index) const;

  std::shared_ptr<const Dataset> dataset_;
  std::vector<int64_t> indices_;
};

/// The indices of the two sides of a split, each in ascending order.
struct SplitIndices {
  std::vector<int64_t> train;
  std::vector<int64_t> validation;
};

/// Assigns each sample by the hash of its key alone, so a sample does not change sides if the data
/// set is reordered or if other samples are added or removed, and a larger fraction only adds
/// samples to validation.
///
/// Each side has at least one sample: a side that the hashes leave empty gets the sample that is
/// closest to it. A single sample is on both sides.
SplitIndices split_by_key(const Dataset& dataset, double validation_fraction);

}  // namespace dalle
