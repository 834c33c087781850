#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dist/rank_info.h"

namespace dalle {

/// The content of `path` if it can be read only once, like a pipe; nothing for a regular file.
std::optional<std::string> text_of_pipe(const std::string& path);

/// Whether this process may start ranks for --ranks: not if a launcher has started it as one of
/// several, which is logged.
bool may_start_ranks(int64_t ranks, const RankInfo& launched);

/// @throws dalle::Error as find_device() does, or if this machine has too few GPUs for the ranks
void check_devices_of_ranks(int64_t ranks, const std::string& device);

/// Starts `ranks` ranks with the arguments of main, and waits for them. A config from a pipe is
/// passed to them as an in-memory file.
/// @param config  the value of --config
/// @param piped   from text_of_pipe()
/// @return        the exit status
int start_ranks(int64_t ranks, const std::string& config, const std::optional<std::string>& piped,
                char** argv);

}  // namespace dalle
