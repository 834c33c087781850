#pragma once

#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "dist/process_group.h"
#include "metrics/metric_log.h"
#include "parallel/tree_sum.h"
#include "train/train_task.h"

namespace dalle {

/// What a rank may ask for in a step, and all ranks then do.
struct StepVotes {
  bool stop = false;
  bool save = false;
  bool abandon = false;          ///< discard the step: a rank skipped micro-batches to stop sooner
  bool weights_changed = false;  ///< on a rank, between two updates
};

/// The losses of a step: added up over its micro-batches and then over the ranks, in the tree's
/// order, as bitwise training requires.
class StepLosses {
 public:
  void add(const TaskLoss& loss);

  /// Adds up the losses over the ranks, and sends the votes along with them.
  /// @return what any of the ranks votes for
  StepVotes sum_over(ProcessGroup& group, c10::Device device, bool bitwise, const StepVotes& own);

  /// The sums, once sum_over() was called.
  const std::vector<Metric>& sums() const { return sums_; }

  /// The first loss that is not finite, or null.
  const Metric* non_finite() const;

 private:
  TreeSum sum_;
  std::vector<std::string> names_;
  std::vector<Metric> sums_;
};

}  // namespace dalle
