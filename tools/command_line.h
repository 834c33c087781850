#pragma once

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
/// line on standard error and status 1; wrong usage one line and status 2.
int run_tool(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

/// An error in one line, as run_tool() logs it.
std::string message_of(const std::exception& error);

/// The status that the tool exits with because of an error.
int exit_status_of(const std::exception& error);

/// Adds `--device`: auto, cpu, cuda or cuda:N.
void add_device_option(CLI::App& app, std::string& name);

/// @throws dalle::Error if the name is unknown or there is no such device
c10::Device find_device(const std::string& name);

}  // namespace dalle
