#include "nn/gpu/cuda_kernel.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/error.h"

namespace dalle {
namespace {

/// Machine code for 8.0 runs on all GPUs of 8.x. That for 9.0 and 10.0 uses instructions that only
/// these have.
bool runs_on(const CompiledKernel& kernel, int capability) {
  if (kernel.ptx) return kernel.architecture <= capability;
  return kernel.architecture == 80 ? capability / 10 == 8 : kernel.architecture == capability;
}

int attribute(cudaDeviceAttr name, c10::Device device) {
  int value = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device.index()));
  return value;
}

}  // namespace

CudaKernel::CudaKernel(const CompiledKernel& kernel, c10::Device device) : kernel_(&kernel) {
  const c10::cuda::CUDAGuard guard(device);
  cudaLibrary_t library = nullptr;  // stays loaded
  C10_CUDA_CHECK(
      cudaLibraryLoadData(&library, kernel.code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  C10_CUDA_CHECK(cudaLibraryGetKernel(&function_, library, kernel.function));
  C10_CUDA_CHECK(
      cudaKernelSetAttributeForDevice(function_, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(kernel.shared_bytes), device.index()));
}

void CudaKernel::launch_at(void** addresses, int64_t programs) const {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(programs));
  config.blockDim = dim3(kernel_->threads);
  config.dynamicSmemBytes = kernel_->shared_bytes;
  config.stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(function_), addresses));
}

void* pointer_of(const at::Tensor& tensor) {
  constexpr uintptr_t kAlignment = 16;  // tt.divisibility in cmake/compile_kernels.py
  if (!tensor.defined()) return nullptr;
  DALLE_CHECK(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % kAlignment == 0);
  return tensor.data_ptr();
}

std::optional<CudaKernel> load_cuda_kernel(std::string_view name, c10::Device device) {
  const int capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                         attribute(cudaDevAttrComputeCapabilityMinor, device);
  const CompiledKernel* found = nullptr;
  for (const CompiledKernel& kernel : compiled_kernels())  // machine code rather than PTX
    if (kernel.name == name && runs_on(kernel, capability) && (found == nullptr || found->ptx))
      found = &kernel;
  if (found == nullptr) return std::nullopt;
  return CudaKernel(*found, device);
}

}  // namespace dalle
