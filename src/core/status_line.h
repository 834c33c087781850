#pragma once

#include <string_view>

namespace dalle {

/// Whether show_status_line() has an effect: standard error must be a terminal, and this process
/// must log more than errors there (see set_console_rank()).
bool has_status_line();

/// Shows `text` on the last line of the terminal, below the log, replacing the previous one; an
/// empty text removes the line. Text wider than the terminal is shortened. Thread-safe.
void show_status_line(std::string_view text);

}  // namespace dalle
