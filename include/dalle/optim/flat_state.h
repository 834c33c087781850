#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/core/flat_range.h"

namespace dalle {

/// What an optimizer remembers about some ranges of a flat buffer [P] of weights: one number for
/// each of their elements, and no memory for the others.
class FlatState {
 public:
  /// Starts at zero.
  /// @param weights  [P], for size, type and device
  /// @param ranges   in order and apart from one another
  FlatState(const at::Tensor& weights, std::vector<FlatRange> ranges);

  const std::vector<FlatRange>& ranges() const { return ranges_; }

  /// One view for each range.
  const std::vector<at::Tensor>& parts() const { return parts_; }

  /// Writes the ranges into a flat buffer [P], and nothing elsewhere.
  void copy_to(const at::Tensor& flat) const;

  /// Takes the ranges' part of a flat buffer [P].
  void assign(const at::Tensor& flat);

 private:
  std::vector<FlatRange> ranges_;
  int64_t whole_size_;
  std::vector<at::Tensor> parts_;
};

/// The same ranges of another flat buffer; they share its memory.
std::vector<at::Tensor> parts_of(const at::Tensor& flat, const std::vector<FlatRange>& ranges);

}  // namespace dalle
