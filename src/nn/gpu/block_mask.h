#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Which pairs of an attention mask a kernel computes, in the form that the kernels of
/// src/nn/gpu/kernels/attention.py read. Rows are taken in blocks, and columns in blocks of 64.
struct BlockMask {
  at::Tensor ranges;   ///< [row blocks, 4] int32: begin and end in `full`, then in `partial`
  at::Tensor full;     ///< int32: column blocks all of whose pairs are attended to
  at::Tensor partial;  ///< int32: column blocks some of whose pairs are attended to
  /// [partial, 2, rows] int32: bit j of word w of a row is its pair with column 32 w + j
  at::Tensor masks;
};

/// @param mask  [rows, columns] bool on the CPU
/// @param rows  of a block
BlockMask make_block_mask(const at::Tensor& mask, int64_t rows);

/// Rows of a block of the mask that each kernel reads.
struct KernelRows {
  int64_t forward;
  int64_t backward_queries;
  int64_t backward_keys;

  bool operator==(const KernelRows&) const = default;
};

/// An attention mask for block-sparse kernels. Its rows and columns are places: text first, then
/// the image states in raster order or column by column.
struct BlockSparsePattern {
  int64_t length;
  int64_t text_length;
  /// The image state at place text_length + c is at position text_length + c % period * stride + c
  /// / period.
  int64_t period, stride;
  KernelRows rows;
  BlockMask forward;           ///< rows are queries
  BlockMask backward_queries;  ///< rows are queries
  BlockMask backward_keys;     ///< rows are keys
};

}  // namespace dalle
