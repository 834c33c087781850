#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/fields.h"
#include "experiment/torch_setup.h"

#include <CLI/CLI.hpp>

namespace dalle {

class ProcessGroup;

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
/// Ignores SIGPIPE and ensures that descriptors 0, 1 and 2 are open. Exits without destroying
/// static objects, because LibTorch's take 0.15 s.
[[noreturn]] void run_tool(CLI::App& app, int argc, char** argv, const ToolText& text,
                           const std::function<int()>& body);

/// Runs a rank's part of the work. If it fails, the other ranks are told why.
/// @param memory_advice  see ToolText
/// @return  the exit status of `body`, or that of a failure that another rank reports
/// @throws  what `body` does, if this rank must report it on the console
int run_rank(ProcessGroup& group, std::string_view memory_advice, const std::function<int()>& body);

/// Check an option's value like the config does its keys: decimal, without leading zeros, in range.
/// CLI11 alone would parse 010 as 8. To be passed to transform().
CLI::Validator whole_number(int64_t min, int64_t max = std::numeric_limits<int64_t>::max());
CLI::Validator number(double min, double max);

/// Adds an option whose value is one of an enum's names.
///
/// @param value    an E, whose name the help shows as the default, or a std::optional<E>
/// @param choices  the values that the option accepts; empty: all
template <NamedEnum E, class Value>
CLI::Option* add_enum_option(CLI::App& app, const std::string& flag, Value& value,
                             const std::string& help, const std::vector<E>& choices = {}) {
  std::vector<std::string> names;
  for (const auto& [choice, name] : enum_names(E{}))
    if (choices.empty() || std::ranges::count(choices, choice) > 0) names.emplace_back(name);
  CLI::Option* const option = app.add_option_function<std::string>(
      flag, [&value](const std::string& name) { value = find_enum<E>(name).value(); }, help);
  if constexpr (std::same_as<Value, E>) option->default_str(std::string(to_string(value)));
  return option->check(CLI::IsMember(names));
}

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
