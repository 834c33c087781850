#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <cuda_runtime_api.h>

#include "nn/gpu/compiled_kernels.h"  // from cmake/compile_kernels.py

namespace dalle {

/// One of compiled_kernels(), loaded for a GPU.
class CudaKernel {
 public:
  /// @throws c10::Error if the driver cannot load it
  CudaKernel(const CompiledKernel& kernel, c10::Device device);

  /// Rows of a block of the block mask.
  int64_t rows() const { return kernel_->rows; }

  /// Runs a number of programs on the current stream.
  /// @param arguments  the kernel's own struct of compiled_kernels.h
  /// @throws c10::Error if it cannot start
  template <typename Arguments>
  void launch(Arguments arguments, int64_t programs) const {
    launch_at(arguments.addresses().data(), programs);
  }

 private:
  void launch_at(void** addresses, int64_t programs) const;

  const CompiledKernel* kernel_;
  cudaKernel_t function_ = nullptr;
};

/// The address of a tensor's memory for a kernel, which is compiled for multiples of 16 bytes; null
/// for a tensor that is undefined or empty.
void* pointer_of(const at::Tensor& tensor);

/// The kernel of that name for a GPU, or nothing if there is none for it.
/// @throws c10::Error if the driver cannot load it
std::optional<CudaKernel> load_cuda_kernel(std::string_view name, c10::Device device);

}  // namespace dalle
