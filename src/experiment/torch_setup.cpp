#include "experiment/torch_setup.h"

#include <cstdlib>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Logging.h>
#include <torch/cuda.h>

#include "core/error.h"
#include "core/machine.h"
#include "dist/rank_info.h"

namespace dalle {

void set_up_torch() {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  if (environment_variable("OMP_NUM_THREADS")) return;
  const auto cpus = static_cast<int>(usable_cpus());
  if (cpus < at::get_num_threads()) at::set_num_threads(cpus);
}

void silence_torch_log() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
}

c10::Device find_device(const std::string& name) {
  const bool has_cuda = torch::cuda::is_available();
  if (name == "auto") return has_cuda ? c10::Device("cuda:0") : c10::Device("cpu");
  if (name == "cpu") return c10::Device("cpu");
  if (name != "cuda" && !name.starts_with("cuda:"))
    throw Error("device {:?}: expected auto, cpu, cuda or cuda:N", name);
  if (!has_cuda)
    throw Error("device {}: no usable GPU was found, or this build supports only CPUs", name);
  const std::string digits = name == "cuda" ? "0" : name.substr(5);
  if (digits.empty() || digits.size() > 3 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    throw Error("device {:?}: expected cuda:N with the number of a GPU", name);
  const int index = std::stoi(digits);
  if (index >= static_cast<int>(torch::cuda::device_count()))
    throw Error("device {}: the number of GPUs of this machine is {}", name,
                torch::cuda::device_count());
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

}  // namespace dalle
