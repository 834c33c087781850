#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include "experiment/torch_setup.h"

#include <CLI/CLI.hpp>

namespace dalle {

/// Exit statuses of the tools. A tool that was asked to stop exits with 128 + the signal's number
/// after saving its work.
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

/// Texts of a tool for --help and for errors.
struct ToolText {
  std::string examples;       ///< command lines, each indented and ending in a newline
  std::string memory_advice;  ///< what to do when memory runs out: "lower --batch-size"
};

/// Adds --version and the examples, parses the arguments and runs `body`. An exception becomes one
/// line on standard error and status 1, wrong usage one line and status 2. If standard output
/// cannot be written, the status is 1, or that of SIGPIPE if its reader has closed it.
///
/// Ignores SIGPIPE and ensures that descriptors 0, 1 and 2 are open.
int run_tool(CLI::App& app, int argc, char** argv, const ToolText& text,
             const std::function<int()>& body);

/// An error as run_tool() logs it: its text or, if memory ran out, that and the advice.
std::string error_line(const std::exception& error, std::string_view memory_advice);

/// The exit status of a tool that fails with `error`.
int exit_status_of(const std::exception& error);

/// Check an option's value like the config does its keys: decimal, without leading zeros, in range.
/// CLI11 alone would parse 010 as 8. To be passed to transform().
CLI::Validator whole_number(int64_t min, int64_t max = std::numeric_limits<int64_t>::max());
CLI::Validator number(double min, double max);

/// What find_model() does without an argument, for --help.
inline constexpr std::string_view kDefaultModel =
    "default: $DALLE_MODEL, or else the most recently finished run under runs/";

/// The run or checkpoint that `--model` or the variable DALLE_MODEL names, or else the most
/// recently finished run under runs/.
/// @param argument  of --model; empty: not given
/// @throws dalle::Error if there is no finished run
std::filesystem::path find_model(const std::string& argument);

/// Adds `--device`, whose value is meant for find_device().
void add_device_option(CLI::App& app, std::string& name);

}  // namespace dalle
