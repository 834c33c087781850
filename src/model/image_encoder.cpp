#include "model/image_encoder.h"

#include <memory>
#include <vector>

#include <torch/types.h>

namespace dalle {

ImageEncoderImpl::ImageEncoderImpl(const DiscreteVaeConfig& config, Precision precision) {
  const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
  input_ = blocks->register_module("input", Conv2d(3, config.hidden, /*kernel=*/7, precision));
  const std::vector<int64_t> widths = config.group_widths();
  groups_ = register_groups(*blocks,
                            {.kind = ResidualBlockKind::kEncoder,
                             .in_channels = config.hidden,
                             .post_gain = config.residual_gain(),
                             .precision = precision},
                            widths, config.blocks_per_group);
  const auto output = blocks->register_module("output", std::make_shared<torch::nn::Module>());
  output_ = output->register_module(
      "conv", Conv2d(widths.back(), config.latent_channels(), /*kernel=*/1, Precision::kFloat32));
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
  dalle::initialize(groups_, generator);
  output_->initialize(generator);
}

}  // namespace dalle
