#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "dist/process_group.h"
#include "optim/flat_parameters.h"

namespace dalle {

/// Compares the weights of all ranks, which must be bitwise identical: a rank whose memory is
/// faulty, or that computes differently from the rest, would corrupt the others' weights unnoticed.
///
/// It compares a 64-bit sum of each parameter's bits, weighted by position: a single flipped bit
/// always shows, and so do two swapped values.
/// @throws dalle::Error, on every rank, naming the first parameter that differs and the ranks with
///         the least common value
void check_replicas(const FlatParameters& parameters, ProcessGroup& group);

/// Detects weights of this rank that change between two updates, by sums of their bits: a flipped
/// bit always shows.
///
/// Where ranks share the optimizer's work, each update hands the owner's weights to all ranks,
/// including the faulty ones, so check_replicas() finds no difference afterwards.
class WeightChecksum {
 public:
  /// Remembers the weights as they are now.
  void set(const FlatParameters& parameters);

  /// @return the first parameter that has changed since then; empty if none has
  std::string changed_parameter(const FlatParameters& parameters) const;

 private:
  at::Tensor sums_;  ///< [parameters] int64
};

}  // namespace dalle
