#include "command_line.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <new>
#include <optional>
#include <string_view>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Logging.h>
#include <torch/cuda.h>

#include "core/build_info.h"
#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/strict_number.h"
#include "dist/process_group.h"
#include "dist/rank_info.h"
#include "tensor/error_text.h"
#include "train/out_of_memory.h"

namespace dalle {
namespace {

/// Silences LibTorch's log: when a rank dies, it warns with backtraces of exceptions that the tools
/// report in one line. TORCH_CPP_LOG_LEVEL restores it.
void quiet_libraries() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
}

/// Uses as many threads as the process has CPUs, unless OMP_NUM_THREADS is set: the OpenMP runtime
/// respects the affinity mask but not a container's CPU quota.
void limit_threads() {
  if (environment_variable("OMP_NUM_THREADS")) return;
  const auto cpus = static_cast<int>(usable_cpus());
  if (cpus < at::get_num_threads()) at::set_num_threads(cpus);
}

/// Opens those of descriptors 0, 1 and 2 that the caller has closed. Otherwise the next file
/// opened, perhaps a checkpoint, would get such a descriptor and receive the output for the
/// terminal.
void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1) continue;
    // Opened for the opposite direction, so that using a closed stream is still an error.
    const int opened = ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (opened != stream) throw Error("/dev/null: cannot open: {}", std::strerror(errno));
  }
}

/// Flushes standard output and checks that everything was written.
/// @return  the exit status; a reader that stops early, such as `head`, is not an error
/// @throws dalle::Error if something could not be written
int finish_output(int status) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  // An earlier write may have failed and its errno may be lost; another write fails the same way.
  const bool fails = ::write(STDOUT_FILENO, "\n", 1) != 1;
  if (fails && errno == EPIPE) return 128 + SIGPIPE;
  throw Error("standard output: cannot write: {}",
              fails ? std::strerror(errno) : "an earlier write failed");
}

int parse_and_run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
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
  return body();
}

/// Disables TF32: the precision float32 means all of its bits, also in convolutions on GPUs.
void compute_in_full_float32() {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
}

std::string number_error(const std::string& text, const std::string& expected) {
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
      return number_error(text, fmt::format("a whole number of at most {}", max));
    return number_error(text, fmt::format("a whole number {}{}", is_bounded ? "" : "of ", range));
  };
  return {check, range};
}

CLI::Validator number(double min, double max) {
  const std::string range = fmt::format("from {} to {}", min, max);
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<double> value = parse_number(text);
    return value && *value >= min && *value <= max ? "" : number_error(text, "a number " + range);
  };
  return {check, range};
}

int run_tool(CLI::App& app, int argc, char** argv, const ToolText& text,
             const std::function<int()>& body) {
  app.set_version_flag("--version", build_line());
  app.footer("Examples:\n" + text.examples);
  for (CLI::App* command : app.get_subcommands({})) command->footer(app.get_footer());
  // If the reader of the output exits (`| head`, or `| tee` on Ctrl-C), writing must fail rather
  // than kill this process and lose unsaved work.
  std::signal(SIGPIPE, SIG_IGN);
  disable_malloc_trim();
  quiet_libraries();
  limit_threads();
  compute_in_full_float32();
  try {
    open_standard_streams();
    return finish_output(parse_and_run(app, argc, argv, body));
  } catch (const std::exception& error) {
    log_error("{}", error_line(error, text.memory_advice));
    return exit_status_of(error);
  }
}

std::string error_line(const std::exception& error, std::string_view memory_advice) {
  const std::string what = error_text(error);
  if (!is_out_of_memory(error)) return what;
  return fmt::format("out of memory: {} ({})", memory_advice, what.substr(0, what.find('\n')));
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
    throw Error("--device {}: no usable GPU was found, or this build supports only CPUs", name);
  const std::string digits = name == "cuda" ? "0" : name.substr(5);
  if (digits.empty() || digits.size() > 3 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    throw Error("--device {}: expected cuda:N with the number of a GPU", name);
  const int index = std::stoi(digits);
  if (index >= static_cast<int>(torch::cuda::device_count()))
    throw Error("--device {}: this machine has only {} GPUs", name, torch::cuda::device_count());
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

}  // namespace dalle
