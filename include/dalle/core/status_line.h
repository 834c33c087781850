#pragma once

#include <string_view>

namespace dalle {

/// Whether show_status_line() shows anything: standard error is a terminal on which this process
/// logs more than errors (see speak_as_rank()).
bool has_status_line();

/// Shows `text` in the last line of the terminal, in place of what was there; empty: removes it.
/// Log lines appear above it. Thread-safe; text wider than the terminal is shortened.
void show_status_line(std::string_view text);

}  // namespace dalle
