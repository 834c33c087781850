#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/distributed_config.h"
#include "dist/process_group.h"
#include "optim/flat_parameters.h"
#include "parallel/bucket_layout.h"
#include "tensor/flat_range.h"

namespace dalle {

/// Accumulates the gradient of a step over its micro-batches and reduces it over the ranks.
///
/// A step is begin_step(), then before_backward() and after_backward() around each backward pass,
/// then finish(). After it, the flat gradient holds the sum of all micro-batches of all ranks: all
/// of it or, where ranks share the optimizer's work (shard_optimizer), what this rank owns.
class GradientReducer {
 public:
  /// Time spent on sending gradients; zero for a world size of 1.
  struct Communication {
    int64_t steps = 0;
    double busy_s = 0;     ///< something was being sent; known only for all-reduces on CPUs
    double exposed_s = 0;  ///< this rank did nothing but wait for it
  };

  /// Maximum number of buckets in flight where they are sent as copies: for shard_optimizer, and in
  /// bfloat16. Another one waits for the first of them.
  static constexpr int64_t kMostInFlight = 8;

  virtual ~GradientReducer() = default;

  virtual void begin_step() = 0;
  virtual void before_backward(bool is_last) = 0;
  virtual void after_backward() = 0;
  virtual void finish() = 0;

  /// Euclidean norm of the summed gradient, bitwise the same on every rank, regardless of which
  /// rank owns what.
  double norm() const;

  const std::vector<FlatRange>& buckets() const { return layout_.buckets(); }

  /// Whether ranks share the optimizer's work: shard_optimizer, and more than one rank.
  bool is_sharded() const { return sharded_; }

  /// The weights that this rank updates: all of them, or its shard.
  const std::vector<FlatRange>& owned() const { return owned_; }

  /// Fills a flat buffer [P], of which each rank has the ranges that it owns, from all ranks. Does
  /// nothing where every rank owns all.
  void all_gather_owned(const at::Tensor& flat) const;

  /// Since the last call.
  Communication take_communication() { return std::exchange(communication_, {}); }

 protected:
  GradientReducer(FlatParameters& parameters, ProcessGroup& group, const DistributedConfig& config);

  at::Tensor gradients() const { return parameters_.gradients(); }

  FlatParameters& parameters_;
  ProcessGroup& group_;
  BucketLayout layout_;
  bool sharded_;
  Communication communication_;

 private:
  std::vector<FlatRange> owned_;
};

/// The reducer that a config asks for: one that sends buckets during the backward pass, or one that
/// adds up in a fixed order (DistributedConfig::bitwise).
/// @param parameters, group  must outlive it
std::unique_ptr<GradientReducer> make_gradient_reducer(FlatParameters& parameters,
                                                       ProcessGroup& group,
                                                       const DistributedConfig& config);

}  // namespace dalle
