#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace dalle {

/// Which process of a training this is, and where the others meet.
struct RankInfo {
  int64_t rank = 0;
  int64_t world = 1;
  int64_t local_rank = 0;   ///< among the ranks of this machine
  int64_t local_world = 1;  ///< ranks of this machine
  std::string launcher = "none";
  std::string host;  ///< where rank 0 keeps the store; empty for a world of one
  uint16_t port = 0;
  bool store_is_served = false;     ///< the launcher hosts the store: rank 0 does not
  std::optional<int> store_socket;  ///< open and listening at `port`, for rank 0 to take over
  std::string store_prefix;         ///< of this attempt, where a launcher starts ranks again

  bool alone() const { return world == 1; }
};

/// Set by our own launcher (local_launcher.h) for all of its ranks: the number of the socket that
/// rank 0 listens on.
inline constexpr const char* kStoreSocketVariable = "DALLE_STORE_SOCKET";

/// RankInfo::launcher of the ranks that it starts.
inline constexpr const char* kLocalLauncher = "--ranks";

/// A variable's value; nothing if it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The process's own. A variable that is set to nothing counts as not set.
std::optional<std::string> environment_variable(const std::string& name);

/// Reads the variables of torchrun (and of the PyTorch operator on Kubernetes), of Open MPI or of
/// Slurm, in this order; a world of one if none of them is set.
///
/// @throws dalle::Error naming the variables if some are missing, are no numbers, or contradict
///         one another
RankInfo rank_info(const Environment& variable = environment_variable);

/// Ranks, which ascend, for a message: "rank 3", or "ranks 0, 2, 8-15"; of many parts the first
/// ones and how many ranks are left.
std::string name_ranks(const std::vector<int64_t>& ranks);

}  // namespace dalle
