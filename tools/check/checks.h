#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include <nlohmann/json.hpp>

namespace dalle {

enum class CheckOutcome { kPass, kFail, kSkipped, kMeasured };

constexpr auto enum_names(CheckOutcome) {
  return std::array{std::pair{CheckOutcome::kPass, std::string_view("pass")},
                    std::pair{CheckOutcome::kFail, std::string_view("FAIL")},
                    std::pair{CheckOutcome::kSkipped, std::string_view("skipped")},
                    std::pair{CheckOutcome::kMeasured, std::string_view("measured")}};
}

struct CheckResult {
  CheckOutcome outcome = CheckOutcome::kFail;
  std::string found;  ///< one line, including the limit
  nlohmann::ordered_json numbers =
      nlohmann::ordered_json::object();  ///< the same, machine-readable
};

/// A comparison or measurement on a device. It also fails if `run` throws.
struct Check {
  std::string name;
  std::function<CheckResult()> run;
};

/// Every collective through the backend that training on the device uses.
std::vector<Check> collective_checks(c10::Device device);

/// Compares the device's results with the CPU's: noise, losses, gradients, cached decoding,
/// optimizer steps, sampled codes.
std::vector<Check> agreement_checks(c10::Device device);

/// Trains for a few steps: the loss must decrease as on the CPU, and bits must be reproducible.
std::vector<Check> training_checks(c10::Device device);

/// Compares the peak memory of training steps with the estimates; skipped on a CPU.
/// @param configs  the folder of the repository's configs
std::vector<Check> memory_checks(c10::Device device, const std::filesystem::path& configs);

/// Measures the speed of training and sampling, with the configs on a GPU and tiny models on a CPU.
std::vector<Check> speed_checks(c10::Device device, const std::filesystem::path& configs);

}  // namespace dalle
