#include "model/image_encoder.h"

#include <memory>

#include <fmt/format.h>
#include <torch/types.h>

namespace dalle {

ImageEncoderImpl::ImageEncoderImpl(const DiscreteVaeConfig& config, Precision precision) {
  const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
  input_ = blocks->register_module("input", Conv2d(3, config.hidden, /*kernel=*/7, precision));
  int64_t channels = config.hidden;
  for (int64_t g = 1; g <= config.groups; ++g) {
    const auto group =
        blocks->register_module(fmt::format("group_{}", g), std::make_shared<torch::nn::Module>());
    auto& members = groups_.emplace_back();
    for (int64_t b = 1; b <= config.blocks_per_group; ++b) {
      const ResidualBlockOptions options{.kind = ResidualBlockKind::kEncoder,
                                         .in_channels = channels,
                                         .out_channels = config.width_of_group(g),
                                         .post_gain = config.residual_gain(),
                                         .precision = precision};
      members.push_back(group->register_module(fmt::format("block_{}", b), ResidualBlock(options)));
      channels = options.out_channels;
    }
  }
  const auto output = blocks->register_module("output", std::make_shared<torch::nn::Module>());
  output_ = output->register_module(
      "conv", Conv2d(channels, config.latent_channels(), /*kernel=*/1, Precision::kFloat32));
}

at::Tensor ImageEncoderImpl::forward(const at::Tensor& pixels) {
  return output_(activations(pixels));  // [B, L, h, w]
}

at::Tensor ImageEncoderImpl::activations(const at::Tensor& pixels) {
  at::Tensor x = input_(pixels.contiguous(at::MemoryFormat::ChannelsLast));  // [B, hidden, H, W]
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (g > 0) x = at::max_pool2d(x, /*kernel_size=*/2);  // [B, C, H / 2, W / 2]
    for (ResidualBlock& block : groups_[g]) x = block(x);
  }
  return x.relu_();  // [B, C, h, w]
}

void ImageEncoderImpl::initialize(at::Generator generator) {
  input_->initialize(generator);
  for (auto& group : groups_)
    for (ResidualBlock& block : group) block->initialize(generator);
  output_->initialize(generator);
}

}  // namespace dalle
