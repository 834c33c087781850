#include "tensor/flat_state.h"

#include <utility>

#include <torch/types.h>

#include "core/error.h"

namespace dalle {

FlatState::FlatState(const at::Tensor& weights, std::vector<FlatRange> ranges)
    : ranges_(std::move(ranges)), flat_size_(weights.numel()) {
  int64_t size = 0;
  for (const FlatRange& range : ranges_) size += range.size;
  const auto values = torch::zeros({size}, weights.options().requires_grad(false));
  int64_t begin = 0;
  for (const FlatRange& range : ranges_) {
    parts_.push_back(values.narrow(0, begin, range.size));
    begin += range.size;
  }
}

void FlatState::copy_to(const at::Tensor& flat) const {
  DALLE_CHECK(flat.numel() == flat_size_);
  for (size_t i = 0; i < parts_.size(); ++i) ranges_[i].slice(flat).copy_(parts_[i]);
}

void FlatState::assign(const at::Tensor& flat) {
  DALLE_CHECK(flat.numel() == flat_size_);
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i].copy_(ranges_[i].slice(flat));
}

void FlatState::lerp(const at::Tensor& flat, double weight) {
  DALLE_CHECK(flat.numel() == flat_size_);
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i].lerp_(ranges_[i].slice(flat), weight);
}

std::vector<at::Tensor> parts_of(const at::Tensor& flat, const std::vector<FlatRange>& ranges) {
  std::vector<at::Tensor> parts;
  for (const FlatRange& range : ranges) parts.push_back(range.slice(flat));
  return parts;
}

}  // namespace dalle
