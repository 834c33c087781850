#include "model/image_decoder.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <torch/types.h>

namespace dalle {

ImageDecoderImpl::ImageDecoderImpl(const DiscreteVaeConfig& config, Precision precision)
    : log_scale_floor_(config.log_scale_floor) {
  const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
  input_ = blocks->register_module("input", Conv2d(config.decoder_inputs(), config.codebook_width,
                                                   /*kernel=*/1, Precision::kFloat32));
  std::vector<int64_t> widths = config.group_widths();
  std::ranges::reverse(widths);
  groups_ = register_groups(*blocks,
                            {.kind = ResidualBlockKind::kDecoder,
                             .in_channels = config.codebook_width,
                             .post_gain = config.residual_gain(),
                             .precision = precision},
                            widths, config.blocks_per_group);
  const auto output = blocks->register_module("output", std::make_shared<torch::nn::Module>());
  output_ = output->register_module("conv", Conv2d(widths.back(), 6, /*kernel=*/1, precision));
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
  dalle::initialize(groups_, generator);
  output_->initialize(generator);
}

}  // namespace dalle
