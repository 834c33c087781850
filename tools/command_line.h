#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>

namespace dalle {

/// Exit statuses of the tools. A training that was asked to stop exits with 128 + the signal's
/// number, after saving.
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

/// Parses the arguments and runs `body`. A dalle::Error, or one of a library below, becomes one
/// line on standard error and status 1; wrong usage one line and status 2. So does standard output
/// that cannot be written; where its reader has left, the status is that of a SIGPIPE.
///
/// From here on SIGPIPE is ignored, and descriptors 0, 1 and 2 are open.
int run_tool(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

/// For an option's transform(): lets whole numbers from `min` to `max` through. They are read as in
/// a config: 1e3 is a thousand, and 010 is an error.
CLI::Validator whole_number(int64_t min, int64_t max);

/// An error in one line, as run_tool() logs it.
std::string message_of(const std::exception& error);

/// The status that the tool exits with because of an error.
int exit_status_of(const std::exception& error);

/// Adds `--device`: auto, cpu, cuda or cuda:N.
void add_device_option(CLI::App& app, std::string& name);

/// @throws dalle::Error if the name is unknown or there is no such device
c10::Device find_device(const std::string& name);

}  // namespace dalle
