#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace dalle {

/// Which of the processes that train together this one is, and where they meet.
struct RankInfo {
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t local_rank = 0;        ///< among the ranks of this machine
  int64_t local_world_size = 1;  ///< ranks of this machine
  std::string launcher = "none";
  std::string host;  ///< where rank 0 keeps the store; empty if it is not needed
  uint16_t port = 0;
  bool store_is_served = false;     ///< the launcher hosts the store, not rank 0
  std::optional<int> store_socket;  ///< open and listening at `port`, for rank 0 to take over
  std::string store_prefix;         ///< of this attempt, if the launcher restarts ranks

  bool alone() const { return world_size == 1; }
};

/// Set by local_launcher.h for all of its ranks: the descriptor of the socket that rank 0 listens
/// on.
inline constexpr const char* kStoreSocketVariable = "DALLE_STORE_SOCKET";

/// RankInfo::launcher of those ranks.
inline constexpr const char* kLocalLauncher = "--ranks";

/// Returns the value of a variable, or nothing if it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The process's own environment. An empty variable counts as not set.
std::optional<std::string> environment_variable(const std::string& name);

/// Reads the variables of torchrun (and of the PyTorch operator on Kubernetes), of Open MPI or of
/// Slurm, in this order. If none is set, this process is the only rank.
///
/// @throws dalle::Error naming the variables if some are missing, not numbers, or contradictory
RankInfo rank_info(const Environment& variable = environment_variable);

/// Ascending ranks for a message: "rank 3" or "ranks 0, 2, 8-15"; a long list is shortened to its
/// first parts and the number of remaining ranks.
std::string name_ranks(const std::vector<int64_t>& ranks);

}  // namespace dalle
