#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"
#include "nn/attention_kind.h"
#include "nn/attention_tiles.h"
#include "nn/block_mask.h"

namespace dalle {

/// One attention kind on one layout, with what all layers of that kind share: the mask, its tiles
/// or blocks and, during decoding, the positions that the current state attends to. All are
/// computed on first use. Threads may share all but the positions.
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

  /// The positions that the image state at `position` attends to: all text, then the image states
  /// of the pattern, in no particular order.
  /// @return  [n] int64 on `device`
  const at::Tensor& attended_positions(int64_t position, at::Device device);

 private:
  AttentionKind kind_;
  SequenceLayout layout_;
  int64_t conv_kernel_;
  std::vector<int64_t> distances_;
  at::Tensor additive_mask_;
  std::mutex mask_mutex_;
  std::shared_ptr<const AttentionTiles> tiles_;
  std::once_flag tiles_once_;
  std::shared_ptr<const BlockSparsePattern> blocks_;
  at::Device blocks_device_ = at::kCPU;
  at::Tensor attended_positions_;
  int64_t attending_position_ = -1;  // the one that attended_positions_ belongs to
};

}  // namespace dalle
