#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tensor/flat_range.h"

namespace dalle {

/// Optimizer state for some ranges of a flat buffer [P] of weights: one value per element in the
/// ranges, and no memory for the other elements.
class FlatState {
 public:
  /// Initializes the state to zero.
  /// @param weights  [P], of which only size, type and device are used
  /// @param ranges   sorted and disjoint
  FlatState(const at::Tensor& weights, std::vector<FlatRange> ranges);

  const std::vector<FlatRange>& ranges() const { return ranges_; }

  const std::vector<at::Tensor>& parts() const { return parts_; }

  /// Copies the state into its ranges of a flat buffer [P]; the other elements are unchanged.
  void copy_to(const at::Tensor& flat) const;

  /// Copies the state from its ranges of a flat buffer [P].
  void assign(const at::Tensor& flat);

  /// state += weight * (flat - state), which for a weight of 1 - decay is a step of an exponential
  /// moving average.
  /// @param flat  [P]
  void lerp(const at::Tensor& flat, double weight);

 private:
  std::vector<FlatRange> ranges_;
  int64_t flat_size_;
  std::vector<at::Tensor> parts_;
};

/// Returns views of the ranges of `flat`.
std::vector<at::Tensor> parts_of(const at::Tensor& flat, const std::vector<FlatRange>& ranges);

}  // namespace dalle
