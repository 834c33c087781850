#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "dalle/dist/process_group.h"
#include "dalle/optim/flat_parameters.h"

namespace dalle {

/// Compares the weights of all ranks, which must be the same bits: a rank whose memory is damaged,
/// or that computes otherwise than the rest, would spoil the others' weights, unseen.
///
/// What is compared is a 64-bit sum of each parameter's bits, in which each value counts by its
/// place: a single flipped bit always shows, and so do two swapped values.
/// @throws dalle::Error, on every rank, naming the first parameter that differs and the ranks whose
///         value the fewest others share
void check_replicas(const FlatParameters& parameters, ProcessGroup& group);

/// Notices weights of this rank that change between two updates, by sums of their bits: a flipped
/// bit always shows.
///
/// Where ranks share the optimizer's work, each update hands the owner's weights to all ranks, the
/// faulty ones too: whatever check_replicas() compares afterwards is the same everywhere.
class WeightSeal {
 public:
  /// Remembers the weights as they are now.
  void set(const FlatParameters& parameters);

  /// @return the parameter that has changed since then, or some of which one has; empty if none has
  std::string broken(const FlatParameters& parameters) const;

 private:
  at::Tensor sums_;  ///< [blocks] int32
};

}  // namespace dalle
