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
  std::string found;  ///< one line, with the limit that it was held against
  nlohmann::ordered_json numbers = nlohmann::ordered_json::object();  ///< the same for programs
};

/// Something that is run on a device and compared, or measured. It fails too if `run` throws.
struct Check {
  std::string name;
  std::function<CheckResult()> run;
};

/// Every collective, through the backend that training on the device uses.
std::vector<Check> collective_checks(c10::Device device);

/// What the device computes against what the CPU does: noise, losses, gradients, cached decoding,
/// optimizer steps, drawn codes.
std::vector<Check> agreement_checks(c10::Device device);

/// Short trainings: that the loss falls as on the CPU, and that a step's bits can be repeated.
std::vector<Check> training_checks(c10::Device device);

/// Peak memory of training steps against the estimates; skipped on a CPU.
/// @param configs  the folder of the repository's configs
std::vector<Check> memory_checks(c10::Device device, const std::filesystem::path& configs);

/// Speed of training and sampling, of the configs on a GPU and of toys on a CPU; judges nothing.
std::vector<Check> speed_checks(c10::Device device, const std::filesystem::path& configs);

}  // namespace dalle
