#include "nn/attention_pattern.h"

#include <utility>

#include <torch/types.h>

#include "core/error.h"
#include "nn/attention_mask.h"

namespace dalle {

AttentionPattern::AttentionPattern(AttentionKind kind, const SequenceLayout& layout,
                                   int64_t conv_kernel)
    : kind_(kind),
      layout_(layout),
      conv_kernel_(conv_kernel),
      distances_(attended_distances(kind, layout, conv_kernel)) {}

at::Tensor AttentionPattern::additive_mask(const at::Tensor& like) {
  const std::lock_guard lock(mask_mutex_);
  if (!additive_mask_.defined() || additive_mask_.scalar_type() != like.scalar_type() ||
      additive_mask_.device() != like.device()) {
    const auto mask = attention_mask(kind_, layout_, conv_kernel_).to(like.device());
    additive_mask_ = to_additive(mask, like.scalar_type());
  }
  return additive_mask_;
}

std::shared_ptr<const AttentionTiles> AttentionPattern::tiles() {
  std::call_once(tiles_once_, [this] {
    constexpr double kLargestShare = 1.0 / 3;
    auto tiles = std::make_shared<const AttentionTiles>(kind_, layout_, conv_kernel_);
    if (tiles->share_of_pairs() <= kLargestShare) tiles_ = std::move(tiles);
  });
  return tiles_;
}

std::shared_ptr<const BlockSparsePattern> AttentionPattern::blocks(const KernelRows& rows,
                                                                   at::Device device) {
  const std::lock_guard lock(mask_mutex_);
  if (blocks_ == nullptr || blocks_->rows != rows || blocks_device_ != device) {
    blocks_ =
        std::make_shared<const BlockSparsePattern>(kind_, layout_, conv_kernel_, rows, device);
    blocks_device_ = device;
  }
  return blocks_;
}

const at::Tensor& AttentionPattern::attended_positions(int64_t position, at::Device device) {
  const int64_t text = layout_.text_length;
  DALLE_CHECK(layout_.is_image(position) && position < layout_.length());
  if (attending_position_ != position || attended_positions_.device() != device) {
    std::vector<int64_t> attended;
    for (int64_t key = 0; key < text; ++key) attended.push_back(key);
    for (const int64_t distance : distances_)
      if (position - distance >= text) attended.push_back(position - distance);
    attended_positions_ = torch::tensor(attended, torch::kInt64).to(device);
    attending_position_ = position;
  }
  return attended_positions_;
}

}  // namespace dalle
