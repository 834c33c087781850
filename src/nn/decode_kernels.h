#pragma once

#include <cstdint>
#include <span>

namespace dalle {

/// Weights are packed into panels of this many outputs, [in, kPanelWidth] each. Outputs are padded
/// to a multiple of it, so that no product needs a remainder loop.
inline constexpr int64_t kPanelWidth = 32;

/// Buffers that a kernel reads in whole vectors have this many readable floats after their end.
inline constexpr int64_t kVectorSlack = 16;

/// Rows of a product, y = x wᵀ + bias.
struct RowBlock {
  const float* x = nullptr;  ///< [rows, x_stride], of which `in` are used
  int64_t x_stride = 0;
  int64_t rows = 0;
  int64_t in = 0;
  float* y = nullptr;  ///< [rows, y_stride]
  int64_t y_stride = 0;
};

/// Consecutive cells of a cache.
struct CellRun {
  int32_t begin = 0;
  int32_t count = 0;
};

/// The keys and values of one head, of text or of an image.
struct HeadCache {
  float* keys = nullptr;    ///< [head width, key_stride]: scores of consecutive cells are
                            ///< computed together
  float* values = nullptr;  ///< [cells, value_stride]
  int64_t key_stride = 0;
  int64_t value_stride = 0;  ///< a multiple of kVectorSlack
};

/// Attention of one query to text and image cells, with one softmax over both.
struct HeadAttention {
  const float* query = nullptr;  ///< [head_width], already scaled
  int64_t head_width = 0;
  HeadCache text;
  int64_t text_cells = 0;  ///< attended, starting with the first one
  HeadCache image;
  std::span<const CellRun> image_runs;
  float* scores = nullptr;  ///< scratch: one float per attended cell, plus kVectorSlack
  float* output = nullptr;  ///< [head_width]
};

/// The arithmetic of decoding on the CPU for one instruction set.
///
/// Every sum has a fixed order for each row and output, so the results of a row do not depend on
/// the other rows of a call or on threads. They do depend on the instruction set.
struct DecodeKernels {
  const char* name;

  /// Computes `panels` consecutive panels of outputs. Sums begin with the bias and run over the
  /// inputs in order.
  /// @param weight  [panels, in, kPanelWidth]
  /// @param bias    [panels, kPanelWidth]
  void (*multiply_float32)(const RowBlock& block, const float* weight, const float* bias,
                           int64_t panels);
  /// The same with bfloat16 weights, which are widened and accumulated in float32.
  void (*multiply_bfloat16)(const RowBlock& block, const uint16_t* weight, const float* bias,
                            int64_t panels);

  void (*attend)(const HeadAttention& attention);

  /// Layer normalization of one row with ATen's default epsilon. x and y may be the same.
  void (*layer_norm)(const float* x, const float* gain, const float* bias, int64_t width, float* y);

  /// Applies GELU in place; `count` is a multiple of kVectorSlack. The error function has an
  /// absolute error of 1.5e-7 (Abramowitz and Stegun 1964, equation 7.1.26).
  void (*gelu)(float* x, int64_t count);
  void (*quick_gelu)(float* x, int64_t count);
};

/// The kernels of the best instruction set that LibTorch uses on this machine: AVX-512, AVX2 with
/// FMA, or the baseline. The environment variable ATEN_CPU_CAPABILITY restricts both.
const DecodeKernels& decode_kernels();

/// All kernels that this machine can run, the baseline first.
std::span<const DecodeKernels* const> supported_decode_kernels();

}  // namespace dalle
