#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/core/sequence_layout.h"
#include "dalle/nn/attention_kind.h"

namespace dalle {

/// One attention kind on one layout, with what all layers of that kind share: its mask and, while a
/// sequence is drawn, the positions that the current state reads. Both are made on first use.
class AttentionPattern {
 public:
  /// @param conv_kernel  side of the convolutional window; odd; read by kConv only
  /// @throws dalle::Error if conv_kernel is even or not positive
  AttentionPattern(AttentionKind kind, const SequenceLayout& layout, int64_t conv_kernel = 11);

  AttentionKind kind() const { return kind_; }
  const SequenceLayout& layout() const { return layout_; }

  /// attention_mask() as what is added to the scores: 0 where a key is seen, else -inf.
  /// @return  [length, length] of the type and on the device of `like`, without gradient
  const at::Tensor& additive_mask(const at::Tensor& like);

  /// The positions that the image state at `position` reads: all text, then the image states of the
  /// pattern, in no particular order.
  /// @return  [n] int64 on `device`
  const at::Tensor& seen_positions(int64_t position, at::Device device);

 private:
  AttentionKind kind_;
  SequenceLayout layout_;
  int64_t conv_kernel_;
  std::vector<int64_t> distances_;
  at::Tensor additive_mask_;
  at::Tensor seen_positions_;
  int64_t seen_from_ = -1;  // the position that seen_positions_ belongs to
};

}  // namespace dalle
