#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/stop_signal.h"
#include "dist/process_group.h"

namespace dalle {

/// A rank's share of work that consists of numbered items: every `world_size`-th of them. Items,
/// and so their results, do not depend on the number of ranks.
struct RankShare {
  int64_t rank = 0;
  int64_t world_size = 1;
  CheckStop check_stop = [] {};  ///< to be called from time to time; throws StopRequested

  bool has(int64_t item) const { return item % world_size == rank; }
};

/// Has each rank do its share of some work and gathers the results. A collective; `work` itself
/// must not call any, so that a rank whose work fails never leaves the others waiting.
/// @param work  returns this rank's result as bytes
/// @return      the results by rank, on every rank
/// @throws StopRequested  on all ranks, if the work of one of them throws it
/// @throws      on the ranks whose work failed, its exception; on the others, a dalle::Error that
///              names one of these, with its message: "rank 3: no space left on device"
std::vector<std::string> run_on_ranks(ProcessGroup& group, const CheckStop& check_stop,
                                      const std::function<std::string(const RankShare&)>& work);

}  // namespace dalle
