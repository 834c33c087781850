#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nn/activation.h"
#include "nn/decode_kernels.h"
#include "tensor/precision.h"

namespace dalle {

/// The fewest multiplications for which decoding starts a thread: about 50 to 100 microseconds of
/// work. With less, synchronization costs more than threads gain, especially while other programs
/// are busy.
inline constexpr int64_t kProductsPerThread = 1 << 19;

/// y = x wᵀ + b for few rows, from weights that are packed once. Reads each weight once for all
/// rows.
///
/// A result depends only on its row of x and the instruction set, not on the other rows, their
/// number or the threads (LibTorch's products choose their order of summation by the number of
/// rows). Under kBfloat16 the weights are stored in bfloat16, but x and the sums remain float32, so
/// a result is more accurate than that of Linear, which also rounds x and the result.
class PackedLinear {
 public:
  /// @param weight  [out, in] float32
  /// @param bias    [out] float32, or undefined
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, Precision precision,
               const DecodeKernels& kernels = decode_kernels());

  /// @param rows        at least 1
  /// @param x           [rows, x_stride], of which the first `in` columns are used
  /// @param y           [rows, padded_out()]; the columns after `out` become 0
  /// @param activation  applied to the products
  void multiply(const float* x, int64_t x_stride, int64_t rows, float* y,
                std::optional<Activation> activation = std::nullopt) const;

  int64_t out() const { return out_; }
  int64_t padded_out() const { return static_cast<int64_t>(bias_.size()); }

  /// Bytes of weights that a product reads.
  int64_t bytes() const;

 private:
  void multiply_panels(const RowBlock& block, int64_t first, int64_t panels) const;

  const DecodeKernels* kernels_;
  int64_t in_;
  int64_t out_;
  // [panels, in, kPanelWidth]; one of them is empty.
  std::vector<float> float_weight_;
  std::vector<uint16_t> bfloat16_weight_;
  std::vector<float> bias_;  // [panels, kPanelWidth]
};

}  // namespace dalle
