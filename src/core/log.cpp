#include "dalle/core/log.h"

#include <memory>
#include <string>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "dalle/core/error.h"

namespace dalle {
namespace {

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

}  // namespace

void log_line(LogLevel level, std::string_view line) {
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
