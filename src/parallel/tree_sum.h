#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/process_group.h"

namespace dalle {

/// Adds up tensors in one fixed binary tree over their order: ((t0 + t1) + (t2 + t3)) + ...
///
/// Rounding makes a sum depend on the order of its additions. Here the order depends on the number
/// of terms alone: 2^k ranks that add up 2^n terms each, and then each other's totals with
/// sum_in_tree(), get the bits that one rank gets with all of the terms. Keeps one partial sum for
/// each level of the tree, as a binary counter keeps its digits.
class TreeSum {
 public:
  /// Starts over; the memory is kept.
  void clear();

  /// @param term  of the same shape and type as the others; copied
  void add(const at::Tensor& term);

  /// The sum of all terms; if their number is not a power of two, the partial sums are added from
  /// the last terms to the first ones. Valid until clear().
  /// @throws dalle::Error if there are none
  at::Tensor total();

 private:
  struct Level {
    at::Tensor sum;
    bool full = false;
  };
  std::vector<Level> levels_;  ///< level n: a sum of 2^n terms
};

/// Adds up a tensor [world_size * n] over a power-of-two number of ranks, as TreeSum would add the
/// ranks' tensors: each rank adds up one part of all of them and stores the sum in its place in
/// `tensor`, elements [rank * n, (rank + 1) n). The other parts keep this rank's own terms.
void reduce_scatter_in_tree(ProcessGroup& group, const at::Tensor& tensor);

/// Same, but every rank gets the whole sum, in place, for any number of elements.
void sum_in_tree(ProcessGroup& group, const at::Tensor& tensor);

/// Adds up a tensor over the ranks, in place on every rank: with sum_in_tree() if `bitwise` (see
/// DistributedConfig), else with an all-reduce.
void sum_over_ranks(ProcessGroup& group, const at::Tensor& tensor, bool bitwise);

}  // namespace dalle
