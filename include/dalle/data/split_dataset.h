#pragma once

#include <memory>
#include <vector>

#include "dalle/data/dataset.h"

namespace dalle {

/// Some examples of another data set, in the order of `indices`.
class SplitDataset final : public Dataset {
 public:
  SplitDataset(std::shared_ptr<const Dataset> whole, std::vector<int64_t> indices);

  int64_t size() const override { return std::ssize(indices_); }
  Example get(int64_t index) const override { return whole_->get(index_in_whole(index)); }
  std::string key(int64_t index) const override { return whole_->key(index_in_whole(index)); }
  std::vector<std::string> captions(int64_t index) const override {
    return whole_->captions(index_in_whole(index));
  }
  std::string missing_caption(int64_t index) const override {
    return whole_->missing_caption(index_in_whole(index));
  }

 private:
  int64_t index_in_whole(int64_t index) const;

  std::shared_ptr<const Dataset> whole_;
  std::vector<int64_t> indices_;
};

/// Indices of the two sides of a data set, each in ascending order.
struct SplitIndices {
  std::vector<int64_t> train;
  std::vector<int64_t> validation;
};

/// Assigns each example by the hash of its key alone, so that neither the order nor what is added
/// or taken away moves an example to the other side, and a larger fraction only adds to validation.
///
/// Each side has an example at least: where the hashes leave one empty, it gets the other's nearest
/// one. A single example is on both sides.
SplitIndices split_by_key(const Dataset& dataset, double validation_fraction);

}  // namespace dalle
