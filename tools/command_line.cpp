#include "command_line.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <torch/cuda.h>

#include "dalle/core/build_info.h"
#include "dalle/core/error.h"
#include "dalle/core/log.h"
#include "dalle/core/machine.h"
#include "dalle/core/strict_number.h"
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

/// A GPU's allocator throws a c10::OutOfMemoryError, the CPU's does not.
bool is_out_of_memory(const c10::Error& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         std::strstr(error.what_without_backtrace(), "can't allocate memory") != nullptr;
}

std::string bad_number(const std::string& text, const std::string& expected) {
  const std::string_view advice = number_advice(text);
  return fmt::format("found {}, expected {}{}{}", text, expected, advice.empty() ? "" : ", ",
                     advice);
}

}  // namespace

std::string build_line() {
  const BuildInfo build = build_info();
  return fmt::format("dalle {} ({}), LibTorch {}{}", build.version,
                     build.git_revision.substr(0, 12), build.libtorch,
                     build.cuda.empty() ? "" : fmt::format(", CUDA {}", build.cuda));
}

CLI::Validator whole_number(int64_t min, int64_t max) {
  const bool is_bounded = max < std::numeric_limits<int64_t>::max();
  const std::string range =
      is_bounded ? fmt::format("from {} to {}", min, max) : fmt::format("at least {}", min);
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<int64_t> value = parse_whole_number(text);
    if (value && *value >= min && *value <= max) {
      text = std::to_string(*value);
      return "";
    }
    const bool is_too_large = parse_number(text).value_or(0) >= 0x1p63;
    if (!is_bounded && is_too_large)
      return bad_number(text, fmt::format("a whole number of at most {}", max));
    return bad_number(text, fmt::format("a whole number {}{}", is_bounded ? "" : "of ", range));
  };
  return {check, range};
}

CLI::Validator number(double min, double max) {
  const std::string range = fmt::format("from {} to {}", min, max);
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<double> value = parse_number(text);
    return value && *value >= min && *value <= max ? "" : bad_number(text, "a number " + range);
  };
  return {check, range};
}

int run_tool(CLI::App& app, int argc, char** argv, const ToolText& text,
             const std::function<int()>& body) {
  app.set_version_flag("--version", build_line());
  app.footer("Examples:\n" + text.examples);
  for (CLI::App* command : app.get_subcommands({})) command->footer(app.get_footer());
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
  } catch (const RankLost& error) {
    log_error("{}", error.what());
    return kExitRankLost;
  } catch (const c10::Error& error) {
    const std::string_view what = error.what_without_backtrace();
    if (is_out_of_memory(error))
      log_error("out of memory: {} ({})", text.memory_advice, what.substr(0, what.find('\n')));
    else
      log_error("{}", what);
  } catch (const std::bad_alloc&) {
    log_error("out of memory: {}", text.memory_advice);
  } catch (const std::exception& error) {
    log_error("{}", error.what());
  }
  return kExitFailure;
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
