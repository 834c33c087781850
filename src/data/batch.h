#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"

namespace dalle {

/// One training sample, ready to be stacked. Tensors that a stage does not need are undefined.
struct Sample {
  int64_t position = 0;  ///< global position in the run; seeds the sample's noise
  at::Tensor image;      ///< [3, S, S] uint8
  at::Tensor codes;      ///< [N] int64 in [0, K), if image tokens were precomputed
  at::Tensor caption;    ///< [text_length - 1] int64, padded with kPadToken
  std::string text;      ///< the original caption, even if `caption` was dropped
};

/// Samples stacked along a new first dimension, in the run's order.
struct Batch {
  std::vector<int64_t> positions;
  at::Tensor images;    ///< [B, 3, S, S] uint8
  at::Tensor codes;     ///< [B, N] int64
  at::Tensor captions;  ///< [B, text_length - 1] int64
  std::vector<std::string> texts;

  int64_t size() const { return static_cast<int64_t>(positions.size()); }

  /// Returns the samples [begin, end), which share this batch's memory.
  Batch slice(int64_t begin, int64_t end) const;

  /// Moves the tensors to pinned memory, which to_device() copies from without waiting for the GPU.
  void pin();
};

/// Truncates a caption to `length` tokens or pads it with kPadToken.
/// @return [length] int64
at::Tensor pad_caption(const std::vector<int64_t>& tokens, int64_t length);

/// @throws dalle::Error if the samples differ in the shape or type of a tensor
Batch stack(std::span<const Sample> samples);

}  // namespace dalle
