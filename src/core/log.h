#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace dalle {

enum class LogLevel { kInfo, kWarning, kError };

/// Writes one line to standard error and to the log file, if one is open. Thread-safe.
void log_line(LogLevel level, std::string_view line);

/// Also appends every line, with a timestamp, to `path`, which is created if missing. It replaces
/// the log file that was open before, if any.
/// @throws dalle::Error if the file cannot be opened
void open_log_file(const std::filesystem::path& path);

/// From now on, lines go only to the console.
void close_log_file();

/// From now on only errors go to the console, prefixed with the rank: rank 0 logs for all ranks.
/// The log file still receives everything.
void set_console_rank(int64_t rank);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace dalle
