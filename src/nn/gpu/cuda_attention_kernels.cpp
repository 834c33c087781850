#include "nn/gpu/cuda_attention_kernels.h"

#include <cmath>

#include <c10/cuda/CUDAGuard.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "nn/gpu/cuda_kernel.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

MaskArguments mask_arguments(const BlockSparsePattern& pattern, const BlockMask& mask,
                             const at::Tensor& qkv) {
  return {.ranges = pointer_of(mask.ranges),
          .full = pointer_of(mask.full),
          .partial = pointer_of(mask.partial),
          .masks = pointer_of(mask.masks),
          .length = static_cast<int32_t>(pattern.length),
          .text = static_cast<int32_t>(pattern.text_length),
          .period = static_cast<int32_t>(pattern.period),
          .stride = static_cast<int32_t>(pattern.stride),
          .heads = static_cast<int32_t>(qkv.size(3)),
          .scale = 1 / std::sqrt(static_cast<float>(qkv.size(4)))};
}

/// One program for each block of rows of each head of each sequence.
template <typename Arguments>
void launch(const CudaKernel& kernel, const Arguments& arguments, const at::Tensor& qkv) {
  const int64_t blocks = round_up(qkv.size(1), kernel.rows()) / kernel.rows();
  kernel.launch(arguments, blocks * qkv.size(0) * qkv.size(3));
}

class CudaAttentionKernels : public AttentionKernels {
 public:
  CudaAttentionKernels(const CudaKernel& forward, const CudaKernel& backward_queries,
                       const CudaKernel& backward_keys)
      : forward_(forward), backward_queries_(backward_queries), backward_keys_(backward_keys) {}

  KernelRows rows() const override {
    return {.forward = forward_.rows(),
            .backward_queries = backward_queries_.rows(),
            .backward_keys = backward_keys_.rows()};
  }

  void forward(const BlockSparsePattern& pattern, const at::Tensor& qkv, at::Tensor& out,
               at::Tensor& lse) const override {
    const c10::cuda::CUDAGuard guard(qkv.device());
    launch(forward_,
           ForwardArguments{.qkv = pointer_of(qkv),
                            .out = pointer_of(out),
                            .lse = pointer_of(lse),
                            .mask = mask_arguments(pattern, pattern.forward, qkv)},
           qkv);
  }

  void backward(const BlockSparsePattern& pattern, const at::Tensor& qkv, const at::Tensor& out,
                const at::Tensor& lse, const at::Tensor& d_out, at::Tensor& d_qkv) const override {
    const c10::cuda::CUDAGuard guard(qkv.device());
    const auto delta = torch::empty_like(lse);
    launch(backward_queries_,
           BackwardQueriesArguments{.qkv = pointer_of(qkv),
                                    .out = pointer_of(out),
                                    .d_out = pointer_of(d_out),
                                    .lse = pointer_of(lse),
                                    .delta = pointer_of(delta),
                                    .d_qkv = pointer_of(d_qkv),
                                    .mask = mask_arguments(pattern, pattern.backward_queries, qkv)},
           qkv);
    launch(backward_keys_,
           BackwardKeysArguments{.qkv = pointer_of(qkv),
                                 .d_out = pointer_of(d_out),
                                 .lse = pointer_of(lse),
                                 .delta = pointer_of(delta),
                                 .d_qkv = pointer_of(d_qkv),
                                 .mask = mask_arguments(pattern, pattern.backward_keys, qkv)},
           qkv);
  }

 private:
  CudaKernel forward_, backward_queries_, backward_keys_;
};

}  // namespace

std::unique_ptr<AttentionKernels> load_cuda_attention_kernels(c10::Device device,
                                                              int64_t head_width) {
  const auto load = [&](const char* name) {
    return load_cuda_kernel(fmt::format("{}_{}", name, head_width), device);
  };
  const auto forward = load("forward"), queries = load("backward_queries"),
             keys = load("backward_keys");
  if (!forward || !queries || !keys) return nullptr;
  return std::make_unique<CudaAttentionKernels>(*forward, *queries, *keys);
}

}  // namespace dalle
