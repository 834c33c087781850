#include "nn/gpu/cuda_norm_kernels.h"

#include <optional>
#include <string>

#include <c10/cuda/CUDAGuard.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "nn/gpu/cuda_kernel.h"

namespace dalle {
namespace {

/// The same for all GPUs, because it decides the order of sums.
constexpr int64_t kBackwardPrograms = 512;

/// Forward and backward with or without a branch.
struct KernelPair {
  CudaKernel forward, backward;
};

class CudaNormKernels : public NormKernels {
 public:
  CudaNormKernels(const KernelPair& alone, const KernelPair& with_branch)
      : alone_(alone), with_branch_(with_branch) {}

  void forward(const NormInputs& in, NormOutputs& out) const override {
    const c10::cuda::CUDAGuard guard(in.x.device());
    const int64_t width = in.x.size(-1);
    kernels_for(in.branch).forward.launch(
        NormForwardArguments{.x = pointer_of(in.x),
                             .branch = pointer_of(in.branch),
                             .gain = pointer_of(in.gain),
                             .bias = pointer_of(in.bias),
                             .total = pointer_of(out.total),
                             .normed = pointer_of(out.normed),
                             .mean = pointer_of(out.mean),
                             .rstd = pointer_of(out.rstd),
                             .width = static_cast<int32_t>(width),
                             .epsilon = static_cast<float>(kNormEpsilon)},
        in.x.numel() / width);
  }

  void backward(const NormOutputs& saved, const at::Tensor& gain, const at::Tensor& d_total,
                const at::Tensor& d_normed, NormGradients& gradients) const override {
    const c10::cuda::CUDAGuard guard(d_total.device());
    const int64_t width = d_total.size(-1);
    const auto d_gain = torch::empty({kBackwardPrograms, width}, gain.options());
    const auto d_bias = torch::empty_like(d_gain);
    kernels_for(gradients.branch)
        .backward.launch(
            NormBackwardArguments{.total = pointer_of(saved.total),
                                  .mean = pointer_of(saved.mean),
                                  .rstd = pointer_of(saved.rstd),
                                  .gain = pointer_of(gain),
                                  .d_total = pointer_of(d_total),
                                  .d_normed = pointer_of(d_normed),
                                  .d_x = pointer_of(gradients.x),
                                  .d_branch = pointer_of(gradients.branch),
                                  .d_gain = pointer_of(d_gain),
                                  .d_bias = pointer_of(d_bias),
                                  .rows = static_cast<int32_t>(d_total.numel() / width),
                                  .width = static_cast<int32_t>(width)},
            kBackwardPrograms);
    gradients.gain = d_gain.sum(0);
    gradients.bias = d_bias.sum(0);
  }

 private:
  const KernelPair& kernels_for(const at::Tensor& branch) const {
    return branch.defined() ? with_branch_ : alone_;
  }

  KernelPair alone_, with_branch_;
};

std::optional<KernelPair> load_pair(const std::string& suffix, c10::Device device) {
  const auto forward = load_cuda_kernel("norm_forward" + suffix, device);
  const auto backward = load_cuda_kernel("norm_backward" + suffix, device);
  if (!forward || !backward) return std::nullopt;
  return KernelPair{.forward = *forward, .backward = *backward};
}

}  // namespace

std::unique_ptr<NormKernels> load_cuda_norm_kernels(c10::Device device, int64_t width) {
  if (width % 16 != 0) return nullptr;  // the kernels are compiled for multiples of 16
  int64_t block = 512;                  // the smallest that cmake/compile_kernels.py compiles
  while (block < width) block *= 2;
  const auto alone = load_pair(fmt::format("_{}", block), device);
  const auto with_branch = load_pair(fmt::format("_{}_branch", block), device);
  if (!alone || !with_branch) return nullptr;
  return std::make_unique<CudaNormKernels>(*alone, *with_branch);
}

}  // namespace dalle
