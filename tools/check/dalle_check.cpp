// dalle-check: compares a GPU's results with the CPU's and measures its speed.

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <torch/cuda.h>
#ifdef DALLE_CUDA
#include <cuda_runtime_api.h>
#endif

#include "checks.h"
#include "command_line.h"
#include "core/build_info.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/files.h"
#include "core/machine.h"
#include "core/seconds.h"
#include "tensor/error_text.h"

namespace {

using namespace dalle;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string device = "auto";
  std::string configs = "configs";
  std::string json;
};

void add_options(CLI::App& app, Arguments& arguments) {
  add_device_option(app, arguments.device);
  app.add_option(
         "--configs", arguments.configs,
         "folder with dalle-50m.yaml and the other configs whose memory and speed are measured")
      ->capture_default_str();
  app.add_option("--json", arguments.json, "also write all numbers to this file");
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

CheckResult result_of(const Check& check) {
  try {
    return check.run();
  } catch (const std::exception& error) {
    return {.found = first_line(error_text(error))};
  }
}

/// Runs checks, prints a line for each, and records the results.
class Report {
 public:
  Report() {
    std::cout << fmt::format("{:<36}{:<10}{:>9}  found (limit)\n", "check", "result", "ms");
  }

  void run(const std::vector<Check>& checks) {
    for (const Check& check : checks) {
      const auto begin = std::chrono::steady_clock::now();
      const CheckResult result = result_of(check);
      const double ms = 1e3 * seconds_since(begin);
      passed_ = passed_ && result.outcome != CheckOutcome::kFail;
      std::cout << fmt::format("{:<36}{:<10}{:>9.0f}  {}\n", check.name, to_string(result.outcome),
                               ms, result.found)
                << std::flush;
      Json entry = {{"name", check.name},
                    {"result", to_string(result.outcome)},
                    {"ms", ms},
                    {"found", result.found}};
      entry.update(result.numbers);
      checks_.push_back(std::move(entry));
    }
  }

  bool passed() const { return passed_; }
  const Json& checks() const { return checks_; }

 private:
  bool passed_ = true;
  Json checks_ = Json::array();
};

/// Name, compute capability and memory of a GPU; null for a CPU.
Json describe_gpu([[maybe_unused]] c10::Device device) {
#ifdef DALLE_CUDA
  cudaDeviceProp properties{};
  if (device.is_cuda() && cudaGetDeviceProperties(&properties, device.index()) == cudaSuccess)
    return {{"name", std::string(properties.name)},
            {"compute_capability", fmt::format("{}.{}", properties.major, properties.minor)},
            {"memory_gib", static_cast<double>(properties.totalGlobalMem) / 0x1p30}};
#endif
  return nullptr;
}

Json describe_build() {
  const BuildInfo build = build_info();
  return {{"dalle", build.version},     {"git_revision", build.git_revision},
          {"compiler", build.compiler}, {"build_type", build.build_type},
          {"libtorch", build.libtorch}, {"cuda", build.cuda}};
}

int check(const Arguments& arguments) {
  if (arguments.device == "auto" && !torch::cuda::is_available())
    throw Error(
        "--device auto: no usable GPU was found, or this build supports only CPUs; --device cpu "
        "compares the CPU with itself");
  // Deterministic matrix products require it before the first product.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  const c10::Device device = find_device(arguments.device);
  const Json gpu = describe_gpu(device);
  std::cout << fmt::format(
      "{} compared with {}, {} processors\n",
      gpu.is_null() ? device.str()
                    : fmt::format("{}, compute capability {}", gpu.at("name").get<std::string>(),
                                  gpu.at("compute_capability").get<std::string>()),
      this_processor().model, std::thread::hardware_concurrency());
  Report report;
  report.run(collective_checks(device));
  report.run(agreement_checks(device));
  report.run(training_checks(device));
  report.run(memory_checks(device, arguments.configs));
  report.run(speed_checks(device, arguments.configs));
  if (!arguments.json.empty())
    write_file_atomically(arguments.json, Json{{"passed", report.passed()},
                                               {"device", device.str()},
                                               {"gpu", gpu},
                                               {"processor", this_processor().model},
                                               {"processors", std::thread::hardware_concurrency()},
                                               {"build", describe_build()},
                                               {"checks", report.checks()}}
                                                  .dump(2) +
                                              "\n");
  return report.passed() ? 0 : kExitFailure;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares a GPU's results with the CPU's and measures its speed.", "dalle-check");
  Arguments arguments;
  add_options(app, arguments);
  const dalle::ToolText text{
      .examples =
          "  dalle-check --device cuda --json check.json\n"
          "  dalle-check --device cpu\n",
      .memory_advice = "close other programs, or use a device with more memory"};
  return dalle::run_tool(app, argc, argv, text, [&] { return check(arguments); });
}
