#pragma once

#include <cstdint>

namespace dalle {

/// Starts this program `ranks` times on this machine, with its own arguments and torchrun's
/// variables in each rank's environment, and waits for them.
///
/// SIGINT, SIGTERM, SIGUSR1 and SIGHUP are relayed to every rank, except SIGHUP if this process
/// ignores it, as under nohup. When a rank fails, the others notice and exit; those that have not
/// exited after a few seconds are killed.
///
/// @param arguments  argv of main; the ranks get them unchanged
/// @return           0 if all ranks returned 0, else the status of the first that did not
/// @throws dalle::Error if a process cannot be started
int launch_local_ranks(int64_t ranks, char** arguments);

}  // namespace dalle
