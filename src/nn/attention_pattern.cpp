#include "nn/attention_pattern.h"

#include <utility>

#include <torch/types.h>

#include "nn/attention_blocks.h"
#include "nn/attention_mask.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

constexpr int64_t kKeysMultiple = 16;  // for other counts, attention on GPUs pads its mask

}  // namespace

AttentionPattern::AttentionPattern(AttentionKind kind, const SequenceLayout& layout,
                                   int64_t conv_kernel)
    : kind_(kind), layout_(layout), conv_kernel_(conv_kernel) {
  attended_distances(kind, layout, conv_kernel);  // checks conv_kernel
}

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
    blocks_ = std::make_shared<const BlockSparsePattern>(
        block_sparse_pattern(kind_, layout_, conv_kernel_, rows, device));
    blocks_device_ = device;
  }
  return blocks_;
}

int64_t AttentionPattern::cache_cells() const {
  return round_up(layout_.length(), kKeysMultiple);
}

AttendedKeys AttentionPattern::attended_keys(const at::Tensor& position, at::ScalarType mask_type) {
  const std::lock_guard lock(mask_mutex_);
  if (!key_mask_.defined() || key_mask_.device() != position.device() ||
      key_mask_.scalar_type() != mask_type) {
    const auto mask = at::constant_pad_nd(attention_mask(kind_, layout_, conv_kernel_),
                                          {0, cache_cells() - layout_.length()})
                          .slice(0, layout_.text_length);  // [image_length, cells]
    const int64_t most = round_up(mask.sum(1).max().item<int64_t>(), kKeysMultiple);
    const auto [is_key, cell] = mask.sort(/*stable=*/true, 1, /*descending=*/true);
    const bool all = kind_ == AttentionKind::kDense;
    if (!all) key_cells_ = cell.slice(1, 0, most).contiguous().to(position.device());
    key_mask_ = to_additive(all ? mask : is_key.slice(1, 0, most), mask_type).to(position.device());
  }
  return {.cell = position + layout_.text_length,
          .cells =
              key_cells_.defined() ? key_cells_.index_select(0, position).squeeze(0) : at::Tensor(),
          .mask = key_mask_.index_select(0, position)};
}

}  // namespace dalle
