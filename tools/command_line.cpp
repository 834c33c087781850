#include "command_line.h"

#include <cstdlib>
#include <new>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <torch/cuda.h>

#include "dalle/core/error.h"
#include "dalle/core/log.h"
#include "dalle/core/machine.h"
#include "dalle/dist/process_group.h"

namespace dalle {
namespace {

/// Nothing of what the libraries log: when another rank goes, they warn with backtraces of what
/// they then throw, and what they throw the tools report in a line. TORCH_CPP_LOG_LEVEL shows it
/// again.
void quiet_libraries() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
}

/// The precision float32 means all of its bits; GPUs would round to TF32's in convolutions.
void compute_in_full_float32() {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
}

}  // namespace

int run_tool(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  keep_freed_memory();
  quiet_libraries();
  compute_in_full_float32();
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
  try {
    return body();
  } catch (const std::exception& error) {
    log_error("{}", message_of(error));
    return exit_status_of(error);
  }
}

std::string message_of(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string cause = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) == nullptr &&
      dynamic_cast<const std::bad_alloc*>(&error) == nullptr)
    return cause;
  return fmt::format(
      "out of memory: lower micro_batch_size, set recompute: true, or see --dry-run: {}", cause);
}

int exit_status_of(const std::exception& error) {
  return dynamic_cast<const RankLost*>(&error) != nullptr ? kExitRankLost : kExitFailure;
}

void add_device_option(CLI::App& app, std::string& name) {
  app.add_option("--device", name, "auto (a GPU if there is one), cpu, cuda or cuda:N")
      ->capture_default_str();
}

c10::Device find_device(const std::string& name) {
  const bool has_cuda = torch::cuda::is_available();
  if (name == "auto") return has_cuda ? c10::Device("cuda:0") : c10::Device("cpu");
  if (name == "cpu") return c10::Device("cpu");
  if (name != "cuda" && !name.starts_with("cuda:"))
    throw Error("--device {}: expected auto, cpu, cuda or cuda:N", name);
  if (!has_cuda)
    throw Error("--device {}: this machine has no usable GPU, or this is a CPU build", name);
  const std::string digits = name == "cuda" ? "0" : name.substr(5);
  if (digits.empty() || digits.size() > 3 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    throw Error("--device {}: expected cuda:N, N the number of a GPU", name);
  const int index = std::stoi(digits);
  if (index >= static_cast<int>(torch::cuda::device_count()))
    throw Error("--device {}: this machine has {} GPUs", name, torch::cuda::device_count());
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

}  // namespace dalle
