#include "nn/gpu_kernels.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "core/log.h"
#include "nn/attention_blocks.h"
#include "nn/gpu/cuda_attention_kernels.h"
#include "nn/gpu/cuda_norm_kernels.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

bool are_enabled() {
  static const bool enabled = [] {
    const char* const value = std::getenv("DALLE_GPU_KERNELS");
    return value == nullptr || std::string_view(value) != "0";
  }();
  return enabled;
}

/// The kernels of one kind that have been loaded, by device and width; null if unusable.
template <typename Kernels>
class KernelCache {
 public:
  /// @param load    (device, width) to a unique_ptr, null if there are none
  /// @param agrees  whether these give the right results
  template <typename Load, typename Agrees>
  const Kernels* find(std::string_view what, at::Device device, int64_t width, const Load& load,
                      const Agrees& agrees) {
    const std::lock_guard lock(mutex_);
    const auto [found, is_new] = kernels_.try_emplace({device.index(), width});
    if (!is_new) return found->second.get();
    const std::string where = fmt::format("{} {} on {}", what, width, device.str());
    try {
      auto kernels = load(device, width);
      if (kernels == nullptr) {
        log_info("{}: no compiled kernels; using LibTorch's operations", where);
      } else if (!agrees(*kernels)) {
        log_warning(
            "{}: the results of the compiled kernels differ from LibTorch's; using LibTorch's "
            "operations",
            where);
      } else {
        log_info("{}: using compiled kernels", where);
        found->second = std::move(kernels);
      }
    } catch (const c10::Error& error) {
      log_warning("{}: could not use the compiled kernels: {}; using LibTorch's operations", where,
                  error_text(error));
    }
    return found->second.get();
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<c10::DeviceIndex, int64_t>, std::unique_ptr<Kernels>> kernels_;
};

}  // namespace

// The caches are never freed: at exit, the driver may be gone before the kernels.

const AttentionKernels* find_attention_kernels(const at::Tensor& qkv) {
  if (!qkv.is_cuda() || qkv.scalar_type() != at::kBFloat16 || !are_enabled()) return nullptr;
  static auto& cache = *new KernelCache<AttentionKernels>;
  return cache.find("block-sparse attention, head width", qkv.device(), qkv.size(-1),
                    load_cuda_attention_kernels, [&](const AttentionKernels& kernels) {
                      return agrees_with_mask(kernels, qkv.size(-1),
                                              qkv.options().requires_grad(false));
                    });
}

const NormKernels* find_norm_kernels(const at::Tensor& x, Precision precision) {
  if (!x.is_cuda() || x.scalar_type() != at::kFloat || precision != Precision::kBfloat16 ||
      !are_enabled())
    return nullptr;
  static auto& cache = *new KernelCache<NormKernels>;
  return cache.find("layer normalization, width", x.device(), x.size(-1), load_cuda_norm_kernels,
                    [&](const NormKernels& kernels) {
                      return agrees_with_layer_norm(kernels, x.size(-1), x.device());
                    });
}

}  // namespace dalle
