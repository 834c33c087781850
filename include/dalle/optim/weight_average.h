#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/core/flat_range.h"
#include "dalle/optim/flat_state.h"

namespace dalle {

/// Exponential moving average of the weights, which evaluation and sampling use.
/// Source: Ramesh et al. 2021, appendices A.2 and B.2
class WeightAverage {
 public:
  /// Starts as a copy of `values` [P].
  explicit WeightAverage(const at::Tensor& values);

  /// @param ranges  what of the weights is averaged, and no other
  WeightAverage(const at::Tensor& values, const std::vector<FlatRange>& ranges);

  /// average = decay * average + (1 - decay) * values
  void update(const at::Tensor& values, double decay);

  const FlatState& state() const { return average_; }
  FlatState& state() { return average_; }

 private:
  FlatState average_;
};

}  // namespace dalle
