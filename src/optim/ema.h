#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "tensor/flat_range.h"
#include "tensor/flat_state.h"

namespace dalle {

/// The exponential moving average of the weights, used for evaluation and sampling.
/// Source: Ramesh et al. 2021, appendices A.2 and B.2
class Ema {
 public:
  /// Starts as a copy of the weights.
  /// @param values  [P] the weights
  /// @param ranges  the parts of the weights to average
  Ema(const at::Tensor& values, const std::vector<FlatRange>& ranges);

  /// ema = decay * ema + (1 - decay) * values
  void update(const at::Tensor& values, double decay);

  const FlatState& state() const { return ema_; }
  FlatState& state() { return ema_; }

 private:
  FlatState ema_;
};

}  // namespace dalle
