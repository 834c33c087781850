#include "command_line.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <optional>
#include <string_view>

#include "core/build_info.h"
#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/number_range.h"
#include "core/strict_number.h"
#include "dist/process_group.h"
#include "experiment/torch_setup.h"
#include "experiment/trained/trained_dalle.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

/// Opens those of descriptors 0, 1 and 2 that the caller has closed. Otherwise the next file
/// opened, perhaps a checkpoint, would get such a descriptor and receive the output for the
/// terminal.
void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1) continue;
    // Opened for the opposite direction, so that using a closed stream is still an error.
    const int opened = ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (opened != stream) throw Error("/dev/null: cannot open: {}", std::strerror(errno));
  }
}

/// Flushes standard output and checks that everything was written.
/// @return  the exit status; a reader that stops early, such as `head`, is not an error
/// @throws dalle::Error if something could not be written
int finish_output(int status) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  // An earlier write may have failed and its errno may be lost; another write fails the same way.
  const bool fails = ::write(STDOUT_FILENO, "\n", 1) != 1;
  if (fails && errno == EPIPE) return 128 + SIGPIPE;
  throw Error("standard output: cannot write: {}",
              fails ? std::strerror(errno) : "an earlier write failed");
}

/// An error's text or, if memory ran out, that and the advice.
std::string error_line(const std::exception& error, std::string_view memory_advice) {
  const std::string what = error_text(error);
  if (!is_out_of_memory(error)) return what;
  return fmt::format("out of memory: {} ({})", memory_advice, what.substr(0, what.find('\n')));
}

int exit_status_of(const std::exception& error) {
  return dynamic_cast<const RankLost*>(&error) != nullptr ? kExitRankLost : kExitFailure;
}

int parse_and_run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app.exit(version);
  } catch (const CLI::ParseError& error) {
    log_error("{} (--help lists the options)", error.what());
    return kExitUsage;
  }
  return body();
}

std::string number_error(const std::string& text, const std::string& expected) {
  const std::string_view advice = number_advice(text);
  return fmt::format("found {}, expected {}{}{}", text, expected, advice.empty() ? "" : ", ",
                     advice);
}

}  // namespace

CLI::Validator whole_number(int64_t min, int64_t max) {
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<int64_t> value = parse_integer(text);
    if (value && *value >= min && *value <= max) {
      text = std::to_string(*value);
      return "";
    }
    const bool is_too_large = parse_number(text).value_or(0) >= 0x1p63;
    if (max == kNoLimit<int64_t> && is_too_large)
      return number_error(text, fmt::format("an integer of at most {}", max));
    return number_error(text, "an integer" + range_phrase(min, max));
  };
  return {check, limits_text(min, max)};
}

CLI::Validator number(double min, double max) {
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<double> value = parse_number(text);
    if (value && *value >= min && *value <= max) return "";
    return number_error(text, "a number" + range_phrase(min, max));
  };
  return {check, limits_text(min, max)};
}

void run_tool(CLI::App& app, int argc, char** argv, const ToolText& text,
              const std::function<int()>& body) {
  app.set_version_flag("--version", build_line());
  app.footer("Examples:\n" + text.examples);
  for (CLI::App* command : app.get_subcommands({})) command->footer(app.get_footer());
  // If the reader of the output exits (`| head`, or `| tee` on Ctrl-C), writing must fail rather
  // than kill this process and lose unsaved work.
  std::signal(SIGPIPE, SIG_IGN);
  disable_malloc_trim();
  silence_torch_log();
  set_up_torch();
  int status = 0;
  try {
    open_standard_streams();
    status = finish_output(parse_and_run(app, argc, argv, body));
  } catch (const std::exception& error) {
    log_error("{}", error_line(error, text.memory_advice));
    status = exit_status_of(error);
  }
  std::quick_exit(status);
}

int run_rank(ProcessGroup& group, std::string_view memory_advice,
             const std::function<int()>& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    const std::string message = error_line(error, memory_advice);
    if (group.announce_failure(message)) throw;
    log_warning("{}", message);  // only in this rank's log; another rank reports it
    return exit_status_of(error);
  }
}

std::filesystem::path find_model(const std::string& argument) {
  if (!argument.empty()) return argument;
  if (const char* variable = std::getenv("DALLE_MODEL"); variable != nullptr && *variable != '\0')
    return variable;
  return newest_finished_run("runs");
}

void add_device_option(CLI::App& app, std::string& name) {
  app.add_option("--device", name, "auto (a GPU if there is one), cpu, cuda or cuda:N")
      ->capture_default_str();
}

}  // namespace dalle
