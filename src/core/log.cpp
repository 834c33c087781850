#include "dalle/core/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "dalle/core/error.h"
#include "dalle/core/status_line.h"
#include "dalle/core/utf8.h"

namespace dalle {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";

// The one process-wide object of the code base: standard error is process-wide as well.
spdlog::logger& logger() {
  static const auto instance = [] {
    auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    console->set_pattern("%^%v%$");
    auto made = std::make_shared<spdlog::logger>("dalle", std::move(console));
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *instance;
}

/// The line below the log, as it is on the terminal.
struct StatusLine {
  std::mutex mutex;  ///< held while a log line is written above it
  std::string text;
};

StatusLine& status_line() {
  static StatusLine instance;
  return instance;
}

void write_to_terminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

/// What fits into a line of the terminal; one that wraps could not be erased.
std::string_view fitted(std::string_view text) {
  struct winsize window {};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
  return utf8_prefix(text, known ? window.ws_col - 1U : 79U);
}

}  // namespace

bool has_status_line() {
  return ::isatty(STDERR_FILENO) == 1 && logger().sinks().front()->should_log(spdlog::level::info);
}

void show_status_line(std::string_view text) {
  if (!has_status_line()) return;
  StatusLine& line = status_line();
  const std::lock_guard lock(line.mutex);
  if (text.empty() && line.text.empty()) return;
  line.text = fitted(text);
  write_to_terminal(std::string(kEraseLine) + line.text);
}

void log_line(LogLevel level, std::string_view line) {
  StatusLine& status = status_line();
  const std::lock_guard lock(status.mutex);
  if (!status.text.empty()) write_to_terminal(kEraseLine);
  const spdlog::string_view_t text(line.data(), line.size());
  switch (level) {
    case LogLevel::kInfo:
      logger().info(text);
      break;
    case LogLevel::kWarning:
      logger().warn("warning: {}", text);
      break;
    case LogLevel::kError:
      logger().error("error: {}", text);
      break;
  }
  if (!status.text.empty()) write_to_terminal(status.text);
}

void speak_as_rank(int64_t rank) {
  const auto& console = logger().sinks().front();
  console->set_level(spdlog::level::err);
  console->set_pattern(fmt::format("%^rank {}: %v%$", rank));
}

void open_log_file(const std::filesystem::path& path) {
  try {
    auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    file->set_pattern("%Y-%m-%d %H:%M:%S.%e %v");
    logger().sinks().push_back(std::move(file));
  } catch (const spdlog::spdlog_ex& error) {
    throw Error("{}: cannot open the log file: {}", path.string(), error.what());
  }
}

}  // namespace dalle
