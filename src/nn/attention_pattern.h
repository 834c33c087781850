#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"
#include "nn/attention_kind.h"
#include "nn/attention_tiles.h"
#include "nn/gpu/block_mask.h"

namespace dalle {

/// What an image state reads of a KV cache, whose cells are the positions of the sequence: the same
/// number of keys n for all states of a pattern.
struct AttendedKeys {
  at::Tensor cell;   ///< [1] int64, of the state itself
  at::Tensor cells;  ///< [n] int64, the keys; undefined: all cells in order
  at::Tensor mask;   ///< [1, n], 0 for the keys that it attends to, else -inf
};

/// One attention kind on one layout, with what all layers of that kind share: the mask, its tiles
/// or blocks and, for decoding, the table of its keys. All are computed on first use, and threads
/// may share them.
class AttentionPattern {
 public:
  /// @param conv_kernel  side of the convolutional window; odd; used only by kConv
  /// @throws dalle::Error if conv_kernel is even or not positive
  AttentionPattern(AttentionKind kind, const SequenceLayout& layout, int64_t conv_kernel = 11);

  AttentionKind kind() const { return kind_; }
  const SequenceLayout& layout() const { return layout_; }

  /// attention_mask() in additive form: 0 where a key is attended to, else -inf.
  /// @return  [length, length] with the type and device of `like`, without gradient
  at::Tensor additive_mask(const at::Tensor& like);

  /// The mask's tiles, or null if they hold more than a third of all pairs: attention over all
  /// pairs is then about as fast. Shared, because a backward pass may outlive the model.
  std::shared_ptr<const AttentionTiles> tiles();

  /// The mask as kernels with these rows on that device read it. Shared like the tiles.
  std::shared_ptr<const BlockSparsePattern> blocks(const KernelRows& rows, at::Device device);

  /// Cells of a KV cache: the length of the sequence, rounded up.
  int64_t cache_cells() const;

  /// What an image state attends to, read from a table on the device, so that nothing waits for it.
  /// @param position   [1] int64 in [0, image_length)
  /// @param mask_type  that of the queries
  /// @return           on the device of `position`
  AttendedKeys attended_keys(const at::Tensor& position, at::ScalarType mask_type);

 private:
  AttentionKind kind_;
  SequenceLayout layout_;
  int64_t conv_kernel_;
  at::Tensor additive_mask_;
  std::mutex mask_mutex_;
  std::shared_ptr<const AttentionTiles> tiles_;
  std::once_flag tiles_once_;
  std::shared_ptr<const BlockSparsePattern> blocks_;
  at::Device blocks_device_ = at::kCPU;
  at::Tensor key_cells_;  // [image_length, n], the rows of attended_keys()
  at::Tensor key_mask_;   // likewise
};

}  // namespace dalle
