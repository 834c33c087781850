#include "model/image_decoder.h"

#include <memory>

#include <fmt/format.h>
#include <torch/types.h>

namespace dalle {

ImageDecoderImpl::ImageDecoderImpl(const DiscreteVaeConfig& config, Precision precision)
    : log_scale_floor_(config.log_scale_floor) {
  const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
  int64_t channels = config.codebook_width;
  input_ = blocks->register_module(
      "input", Conv2d(config.decoder_inputs(), channels, /*kernel=*/1, Precision::kFloat32));
  for (int64_t g = 1; g <= config.groups; ++g) {
    const auto group =
        blocks->register_module(fmt::format("group_{}", g), std::make_shared<torch::nn::Module>());
    auto& members = groups_.emplace_back();
    for (int64_t b = 1; b <= config.blocks_per_group; ++b) {
      const ResidualBlockOptions options{
          .kind = ResidualBlockKind::kDecoder,
          .in_channels = channels,
          .out_channels = config.width_of_group(config.groups + 1 - g),
          .post_gain = config.residual_gain(),
          .precision = precision};
      members.push_back(group->register_module(fmt::format("block_{}", b), ResidualBlock(options)));
      channels = options.out_channels;
    }
  }
  const auto output = blocks->register_module("output", std::make_shared<torch::nn::Module>());
  output_ = output->register_module("conv", Conv2d(channels, 6, /*kernel=*/1, precision));
}

PixelDistribution ImageDecoderImpl::forward(const at::Tensor& embeddings) {
  at::Tensor x = embeddings;
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t b = 0; b < groups_[g].size(); ++b) {
      // The paper upsamples at the end of a group; here the next group's first block does it.
      const bool starts_larger_grid = g > 0 && b == 0;
      x = starts_larger_grid ? groups_[g][b]->forward_upsampled(x) : groups_[g][b](x);
    }
  const auto maps = output_(x.relu_()).to(output_->weight().scalar_type());  // [B, 6, H, W]
  at::Tensor log_scale = maps.slice(1, 3, 6);
  // A hard floor: below it ln b gets no gradient, while the mean keeps its full gradient.
  if (log_scale_floor_) log_scale = log_scale.clamp_min(*log_scale_floor_);
  return {.mean = maps.slice(1, 0, 3), .log_scale = log_scale};
}

void ImageDecoderImpl::initialize(at::Generator generator,
                                  std::optional<double> codebook_init_std) {
  if (codebook_init_std)  // of embeddings
    input_->initialize(generator, *codebook_init_std);
  else
    input_->initialize(generator);
  for (auto& group : groups_)
    for (ResidualBlock& block : group) block->initialize(generator);
  output_->initialize(generator);
}

}  // namespace dalle
