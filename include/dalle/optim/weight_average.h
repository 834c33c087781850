#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

/// Exponential moving average of the weights, which evaluation and sampling use.
/// Source: Ramesh et al. 2021, appendices A.2 and B.2
class WeightAverage {
 public:
  /// Starts as a copy of `values` [P].
  explicit WeightAverage(const at::Tensor& values);

  /// average = decay * average + (1 - decay) * values
  void update(const at::Tensor& values, double decay);

  /// [P]
  const at::Tensor& values() const { return average_; }

 private:
  at::Tensor average_;
};

}  // namespace dalle
