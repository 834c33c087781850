#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>

namespace dalle {

/// Exit statuses of the tools. A training that was asked to stop exits with 128 + the signal's
/// number, after saving.
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

/// What --help and the messages of a tool say of it.
struct ToolText {
  std::string examples;       ///< command lines, each indented and ending in a newline
  std::string memory_advice;  ///< what to do when memory runs out: "lower --count"
};

/// Adds --version and the examples, parses the arguments and runs `body`. A dalle::Error, or one of
/// a library below, becomes one line on standard error and status 1; wrong usage one line and
/// status 2. So does standard output that cannot be written; where its reader has left, the status
/// is that of a SIGPIPE.
///
/// From here on SIGPIPE is ignored, and descriptors 0, 1 and 2 are open.
int run_tool(CLI::App& app, int argc, char** argv, const ToolText& text,
             const std::function<int()>& body);

/// An error in one line, as run_tool() logs it.
std::string message_of(const std::exception& error, std::string_view memory_advice);

/// The status that the tool exits with because of an error.
int exit_status_of(const std::exception& error);

/// "dalle 0.1.0 (2bed9b0a1b2c), LibTorch 2.11.0": what --version says.
std::string build_line();

/// Checks an option's value as the config does its keys: decimal, without leading zeros, in range.
/// CLI11 alone would read 010 as 8. To be given to transform().
CLI::Validator whole_number(int64_t min, int64_t max = std::numeric_limits<int64_t>::max());
CLI::Validator number(double min, double max);

/// Adds `--device`: auto, cpu, cuda or cuda:N.
void add_device_option(CLI::App& app, std::string& name);

/// @throws dalle::Error if the name is unknown or there is no such device
c10::Device find_device(const std::string& name);

}  // namespace dalle
