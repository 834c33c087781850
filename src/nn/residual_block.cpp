#include "nn/residual_block.h"

#include <memory>

#include <fmt/format.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

constexpr std::array<int64_t, 4> kernels_of(ResidualBlockKind kind) {
  if (kind == ResidualBlockKind::kEncoder) return {3, 3, 3, 1};
  return {1, 3, 3, 3};
}

}  // namespace

ResidualBlockImpl::ResidualBlockImpl(const ResidualBlockOptions& options)
    : kind_(options.kind),
      post_gain_(options.post_gain),
      res_path_{nullptr, nullptr, nullptr, nullptr} {
  DALLE_CHECK(options.out_channels % 4 == 0);
  const int64_t bottleneck = options.out_channels / 4;
  if (options.in_channels != options.out_channels)
    id_path_ = register_module("id_path", Conv2d(options.in_channels, options.out_channels,
                                                 /*kernel=*/1, options.precision));
  const auto kernels = kernels_of(options.kind);
  const auto res_path = register_module("res_path", std::make_shared<torch::nn::Module>());
  for (size_t i = 0; i < kernels.size(); ++i) {
    const int64_t in = i == 0 ? options.in_channels : bottleneck;
    const int64_t out = i == 3 ? options.out_channels : bottleneck;
    res_path_[i] = res_path->register_module(fmt::format("conv_{}", i + 1),
                                             Conv2d(in, out, kernels[i], options.precision));
  }
}

// ReLU is in place where its input is the output of a convolution: the backward pass of a
// convolution needs its input but not its output.
at::Tensor ResidualBlockImpl::forward(const at::Tensor& x) {
  at::Tensor y = res_path_[0](at::relu(x));  // [B, out / 4, H, W]
  y = res_path_[1](y.relu_());
  y = res_path_[2](y.relu_());
  y = res_path_[3](y.relu_(), post_gain_);  // [B, out, H, W]
  return y + (id_path_ ? id_path_(x) : x);
}

at::Tensor ResidualBlockImpl::forward_upsampled(const at::Tensor& x) {
  DALLE_CHECK(kind_ == ResidualBlockKind::kDecoder && id_path_);
  at::Tensor y = res_path_[0](at::relu(x));  // [B, out / 4, H, W]
  y = res_path_[1](upsample_twofold(y.relu_()));
  y = res_path_[2](y.relu_());
  y = res_path_[3](y.relu_(), post_gain_);  // [B, out, 2H, 2W]
  return y + upsample_twofold(id_path_(x));
}

void ResidualBlockImpl::initialize(at::Generator generator) {
  if (id_path_) id_path_->initialize(generator);
  for (Conv2d& convolution : res_path_) convolution->initialize(generator);
}

ResidualGroups register_groups(torch::nn::Module& parent, ResidualBlockOptions block,
                               const std::vector<int64_t>& widths, int64_t blocks_per_group) {
  ResidualGroups groups;
  for (const int64_t width : widths) {
    auto& members = groups.emplace_back();
    const auto group = parent.register_module(fmt::format("group_{}", groups.size()),
                                              std::make_shared<torch::nn::Module>());
    block.out_channels = width;
    for (int64_t b = 1; b <= blocks_per_group; ++b) {
      members.push_back(group->register_module(fmt::format("block_{}", b), ResidualBlock(block)));
      block.in_channels = width;
    }
  }
  return groups;
}

void initialize(ResidualGroups& groups, const at::Generator& generator) {
  for (auto& group : groups)
    for (ResidualBlock& block : group) block->initialize(generator);
}

at::Tensor upsample_twofold(const at::Tensor& x) {
  return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
}

}  // namespace dalle
