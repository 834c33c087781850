#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "dist/process_group.h"
#include "optim/flat_parameters.h"

namespace dalle {

/// Compares the weights of all ranks, which must be the same bits: a rank whose memory is faulty,
/// or that computes differently from the rest, would corrupt the others' weights unnoticed.
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
class WeightChecksum {
 public:
  /// Remembers the weights as they are now.
  void set(const FlatParameters& parameters);

  /// @return the parameter that has changed since then, or some of which one has; empty if none has
  std::string changed_parameter(const FlatParameters& parameters) const;

 private:
  at::Tensor sums_;  ///< [blocks] int64
};

}  // namespace dalle
