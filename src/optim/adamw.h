#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tensor/flat_range.h"
#include "tensor/flat_state.h"

namespace dalle {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// AdamW over ranges of a flat buffer, in one fused pass.
///
/// Decay is decoupled and scaled by the learning rate: w -= lr * (weight_decay * w + m / (sqrt(v) +
/// eps)), with m and v corrected for their initialization at zero.
///
/// Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization"
class AdamW {
 public:
  /// @param values  [P] float32, the weights; step() updates them in place
  /// @param ranges  the parts of the weights to update
  AdamW(at::Tensor values, const AdamWOptions& options, const std::vector<FlatRange>& ranges);

  /// @param gradients  [P] float32, finite in the ranges
  void step(const at::Tensor& gradients, double learning_rate);

  /// Number of updates so far, on which the bias correction depends.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

  /// Running means of the gradient and of its square, to be saved and restored with updates().
  const FlatState& first_moment() const { return first_moment_; }
  const FlatState& second_moment() const { return second_moment_; }
  FlatState& first_moment() { return first_moment_; }
  FlatState& second_moment() { return second_moment_; }

 private:
  AdamWOptions options_;
  at::Tensor values_;
  FlatState first_moment_;
  FlatState second_moment_;
  int64_t updates_ = 0;
  at::Tensor updates_on_device_;  // [] float32, as the fused kernel requires
};

}  // namespace dalle
