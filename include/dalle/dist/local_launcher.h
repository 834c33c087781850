#pragma once

#include <cstdint>

namespace dalle {

/// Starts this program `ranks` times on this machine, with its own arguments and torchrun's
/// variables in each rank's environment, and waits for them.
///
/// SIGINT, SIGTERM, SIGUSR1 and SIGHUP are passed on to every rank; SIGHUP not where this process
/// was started to ignore it, as by nohup. A rank that fails takes the others along: they
/// find it gone, and what has not ended some seconds later is killed.
///
/// @param arguments  argv of main; the ranks get them unchanged
/// @return           0 if all ranks returned 0, else the status of the first one that did not
/// @throws dalle::Error if a process cannot be started
int launch_local_ranks(int64_t ranks, char** arguments);

}  // namespace dalle
