#include "core/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include "core/error.h"
#include "core/status_line.h"
#include "core/utf8.h"

namespace dalle {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";

/// Colors on a terminal, unless the user disables them.
/// Source: https://no-color.org
spdlog::color_mode color_mode() {
  const char* no_color = std::getenv("NO_COLOR");
  const bool is_disabled = no_color != nullptr && *no_color != '\0';
  return is_disabled ? spdlog::color_mode::never : spdlog::color_mode::automatic;
}

/// The logger and its sinks. Sinks change while other threads log, so every access holds the mutex.
struct Log {
  std::mutex mutex;
  spdlog::sink_ptr console = std::make_shared<spdlog::sinks::stderr_color_sink_st>(color_mode());
  spdlog::logger logger{"dalle", console};
  std::string status;  ///< the line shown below the log

  Log() {
    console->set_pattern("%^%v%$");
    logger.flush_on(spdlog::level::info);
  }
};

// The only global object in the code base, because standard error is global too.
Log& process_log() {
  static Log log;
  return log;
}

void write_to_terminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

/// Shortens the text to the width of the terminal: a line that wraps could not be erased.
std::string_view fit_to_terminal(std::string_view text) {
  struct winsize window {};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
  return utf8_prefix(text, known ? window.ws_col - 1U : 79U);
}

}  // namespace

bool has_status_line() {
  Log& log = process_log();
  const std::lock_guard lock(log.mutex);
  return ::isatty(STDERR_FILENO) == 1 && log.console->should_log(spdlog::level::info);
}

void show_status_line(std::string_view text) {
  if (!has_status_line()) return;
  Log& log = process_log();
  const std::lock_guard lock(log.mutex);
  if (text.empty() && log.status.empty()) return;
  log.status = fit_to_terminal(text);
  write_to_terminal(std::string(kEraseLine) + log.status);
}

void log_line(LogLevel level, std::string_view line) {
  const spdlog::string_view_t text(line.data(), line.size());
  Log& log = process_log();
  const std::lock_guard lock(log.mutex);
  if (!log.status.empty()) write_to_terminal(kEraseLine);
  switch (level) {
    case LogLevel::kInfo:
      log.logger.info(text);
      break;
    case LogLevel::kWarning:
      log.logger.warn("warning: {}", text);
      break;
    case LogLevel::kError:
      log.logger.error("error: {}", text);
      break;
  }
  if (!log.status.empty()) write_to_terminal(log.status);
}

void set_console_rank(int64_t rank) {
  Log& log = process_log();
  const std::lock_guard lock(log.mutex);
  log.console->set_level(spdlog::level::err);
  log.console->set_pattern(fmt::format("%^rank {}: %v%$", rank));
}

void open_log_file(const std::filesystem::path& path) {
  try {
    auto file = std::make_shared<spdlog::sinks::basic_file_sink_st>(path.string());
    file->set_pattern("%Y-%m-%d %H:%M:%S.%e %v");
    Log& log = process_log();
    const std::lock_guard lock(log.mutex);
    log.logger.sinks() = {log.console, std::move(file)};
  } catch (const spdlog::spdlog_ex& error) {
    throw Error("{}: cannot open the log file: {}", path.string(), error.what());
  }
}

void close_log_file() {
  Log& log = process_log();
  const std::lock_guard lock(log.mutex);
  log.logger.sinks() = {log.console};
}

}  // namespace dalle
