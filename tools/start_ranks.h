#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dalle {

/// The content of `path` if it can be read only once, like a pipe; nothing for a regular file.
std::optional<std::string> text_of_pipe(const std::string& path);

/// Starts `ranks` ranks with the arguments of main, and waits for them. A config from a pipe is
/// passed to them as an in-memory file.
/// @param config  the value of --config
/// @param piped   from text_of_pipe()
/// @return        the exit status
int start_ranks(int64_t ranks, const std::string& config, const std::optional<std::string>& piped,
                char** argv);

}  // namespace dalle
