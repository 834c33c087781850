#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"
#include "nn/attention_kind.h"

namespace dalle {

/// Consecutive queries, and two ranges of keys that contain all keys that they attend to. All
/// numbers are places in the order of the tiles.
struct AttentionTile {
  int64_t begin = 0;       ///< first query
  int64_t end = 0;         ///< after the last query and the last key
  int64_t text_keys = 0;   ///< the keys [0, text_keys); none for queries in the text
  int64_t last_begin = 0;  ///< and the keys [last_begin, end)
  at::Tensor mask;         ///< [queries, keys] float32: 0 where a query attends to a key, else -inf

  int64_t queries() const { return end - begin; }
  int64_t keys() const { return text_keys + end - last_begin; }
};

/// The pairs of queries and keys of an attention kind, divided into tiles of 64 queries that leave
/// out most of the pairs that the mask excludes. The order of the image states is raster order, or
/// column by column for patterns that read columns, as in AttendedRuns.
class AttentionTiles {
 public:
  /// @throws dalle::Error if conv_kernel is even or not positive
  AttentionTiles(AttentionKind kind, const SequenceLayout& layout, int64_t conv_kernel);

  const std::vector<AttentionTile>& tiles() const { return tiles_; }

  /// [B, heads, length, head width] as contiguous [B * heads, length, head width] in the order of
  /// the tiles, in float32, or in float64 if `x` is float64.
  at::Tensor to_order(const at::Tensor& x) const;

  /// The inverse of to_order().
  at::Tensor from_order(const at::Tensor& x, int64_t batch) const;

  /// Pairs in the tiles as a share of all length * length pairs.
  double share_of_pairs() const;

 private:
  std::vector<AttentionTile> tiles_;
  at::Tensor positions_;  // [length] int64, by place; undefined: the order of the sequence
  at::Tensor places_;     // [length] int64, by position: the inverse
  int64_t length_;
};

/// Scaled dot-product attention over the pairs in the tiles, computed at least in float32. The
/// backward pass recomputes the weights instead of storing them; it cannot itself be
/// differentiated.
///
/// @param query, key, value  [B, heads, length, head width] on the CPU, of one floating type
/// @return                   [B, heads, length, head width] of that type
at::Tensor tiled_attention(const std::shared_ptr<const AttentionTiles>& tiles,
                           const at::Tensor& query, const at::Tensor& key, const at::Tensor& value);

}  // namespace dalle
