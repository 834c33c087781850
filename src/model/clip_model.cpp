#include "model/clip_model.h"

#include <cmath>
#include <memory>
#include <numbers>

#include <torch/types.h>

#include "core/error.h"
#include "core/sequence_layout.h"
#include "nn/attention_pattern.h"
#include "nn/recompute.h"

namespace dalle {
namespace {

/// Mean and standard deviation of the red, green and blue values of the released model's training
/// images, by which it normalizes its inputs.
constexpr double kMeans[] = {0.48145466, 0.4578275, 0.40821073};
constexpr double kDeviations[] = {0.26862954, 0.26130258, 0.27577711};

constexpr double kInitialTemperature = 0.07;
constexpr double kMaxScale = 100;

at::Tensor per_channel(at::ArrayRef<double> values, const at::Tensor& like) {
  return at::tensor(values, at::kDouble).to(like.options()).view({1, -1, 1, 1});
}

/// Embeddings are projected and normalized in the parameters' type, whatever the precision.
constexpr Precision kEmbeddingPrecision = Precision::kFloat32;

at::Tensor unit_length(const at::Tensor& x) {
  return x / x.norm(2, 1, /*keepdim=*/true);
}

void initialize_blocks(std::vector<TransformerBlock>& blocks, const at::Generator& generator) {
  const WeightInit init{.residual_scale = 1 / std::sqrt(2 * static_cast<double>(blocks.size())),
                        .expand_scale = 1 / std::numbers::sqrt2,
                        .contract_scale = 2};
  for (TransformerBlock& block : blocks) block->initialize(generator, init);
}

}  // namespace

ClipModelImpl::ClipModelImpl(const ClipConfig& config, int64_t image_size, int64_t text_vocab_size,
                             Precision precision)
    : config_(config), image_size_(image_size), text_vocab_size_(text_vocab_size) {
  DALLE_CHECK(image_size % config.patch_size == 0);
  const int64_t image_width = config.image_width, text_width = config.text_width;
  const auto linear = [&](const char* name, int64_t in, int64_t out, Precision of_linear) {
    return register_module(name, Linear(in, out, /*with_bias=*/false, of_linear));
  };
  patch_embedding_ =
      linear("patch_embedding", 3 * config.patch_size * config.patch_size, image_width, precision);
  class_embedding_ = register_parameter("class_embedding", torch::zeros({image_width}));
  image_position_ = register_parameter(
      "image_position", torch::zeros({config.image_length(image_size), image_width}));
  image_pre_norm_ = register_module("image_pre_norm", LayerNorm(image_width));
  image_blocks_ = make_blocks("image_block", config.image_depth,
                              {.attention = {.width = image_width,
                                             .heads = config.image_heads,
                                             .pattern = nullptr,
                                             .precision = precision},
                               .activation = config.activation});
  image_norm_ = register_module("image_norm", LayerNorm(image_width));
  image_projection_ =
      linear("image_projection", image_width, config.embed_dim, kEmbeddingPrecision);

  const SequenceLayout text_alone{
      .text_length = config.text_length, .grid_height = 0, .grid_width = 0};
  token_embedding_ =
      register_parameter("token_embedding", torch::zeros({text_vocab_size + 2, text_width}));
  text_position_ =
      register_parameter("text_position", torch::zeros({config.text_length, text_width}));
  text_blocks_ = make_blocks("text_block", config.text_depth,
                             {.attention = {.width = text_width,
                                            .heads = config.text_heads,
                                            .pattern = std::make_shared<AttentionPattern>(
                                                AttentionKind::kDense, text_alone),
                                            .precision = precision},
                              .activation = config.activation});
  text_norm_ = register_module("text_norm", LayerNorm(text_width));
  text_projection_ = linear("text_projection", text_width, config.embed_dim, kEmbeddingPrecision);
  log_scale_ = register_parameter("logit_scale", torch::zeros({}));
}

std::vector<TransformerBlock> ClipModelImpl::make_blocks(const char* name, int64_t depth,
                                                         const TransformerBlockOptions& options) {
  std::vector<TransformerBlock> blocks;
  for (int64_t layer = 1; layer <= depth; ++layer)
    blocks.push_back(register_module(fmt::format("{}_{}", name, layer), TransformerBlock(options)));
  return blocks;
}

void ClipModelImpl::initialize(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  const double image_std = 1 / std::sqrt(static_cast<double>(config_.image_width));
  const double text_std = 1 / std::sqrt(static_cast<double>(config_.text_width));
  // The variance of PyTorch's default, which is uniform within 1 / sqrt(fan-in).
  const auto patch_values = static_cast<double>(3 * config_.patch_size * config_.patch_size);
  patch_embedding_->initialize(generator, 1 / std::sqrt(3 * patch_values));
  class_embedding_.normal_(0.0, image_std, generator);
  image_position_.normal_(0.0, image_std, generator);
  initialize_blocks(image_blocks_, generator);
  image_projection_->initialize(generator, image_std);
  token_embedding_.normal_(0.0, 0.02, generator);
  text_position_.normal_(0.0, 0.01, generator);
  initialize_blocks(text_blocks_, generator);
  text_projection_->initialize(generator, text_std);
  for (LayerNorm* norm : {&image_pre_norm_, &image_norm_, &text_norm_}) (*norm)->initialize();
  log_scale_.fill_(-std::log(kInitialTemperature));
}

at::Tensor ClipModelImpl::run_blocks(std::vector<TransformerBlock>& blocks, at::Tensor x) const {
  for (TransformerBlock& block : blocks) {
    const auto layer = [&block](const at::Tensor& h) {
      return block->forward(h, /*dropout_seed=*/0);
    };
    x = config_.recompute ? recompute(layer, x) : layer(x);
  }
  return x;
}

at::Tensor ClipModelImpl::embed_images(const at::Tensor& images) {
  DALLE_CHECK(images.sizes().slice(1) == at::IntArrayRef({3, image_size_, image_size_}));
  const auto pixels = (images - per_channel(kMeans, images)) / per_channel(kDeviations, images);
  const auto patches = at::pixel_unshuffle(pixels, config_.patch_size)  // [B, 3 P P, h, w]
                           .flatten(2)
                           .transpose(1, 2);  // [B, h w, 3 P P]
  const auto first = class_embedding_.expand({images.size(0), 1, config_.image_width});
  auto x = at::cat({first, patch_embedding_(patches).to(first.scalar_type())}, 1);
  x = run_blocks(image_blocks_, image_pre_norm_(x + image_position_));  // [B, 1 + h w, D]
  return unit_length(image_projection_(image_norm_(x.select(1, 0))));
}

at::Tensor ClipModelImpl::embed_captions(const at::Tensor& captions) {
  DALLE_CHECK(captions.size(1) == config_.max_caption_tokens());
  const int64_t start_token = text_vocab_size_, end_token = text_vocab_size_ + 1;
  const auto pads = captions.eq(kPadToken);
  const auto end = pads.logical_not().sum(1, /*keepdim=*/true) + 1;  // [B, 1]
  // Whatever is in the place of padding, end-of-text does not attend to it.
  const auto tokens =
      at::cat({at::full({captions.size(0), 1}, start_token, captions.options()),
               captions.masked_fill(pads, 0), at::zeros({captions.size(0), 1}, captions.options())},
              1)
          .scatter_(1, end, end_token);  // [B, T]
  auto x = at::embedding(token_embedding_, tokens) + text_position_;
  x = run_blocks(text_blocks_, x);  // [B, T, D]
  const auto last = x.gather(1, end.unsqueeze(2).expand({-1, 1, x.size(2)})).squeeze(1);
  return unit_length(text_projection_(text_norm_(last)));
}

void ClipModelImpl::limit_logit_scale() {
  const torch::NoGradGuard no_grad;
  log_scale_.clamp_max_(std::log(kMaxScale));
}

ClipModelCost clip_model_cost(const ClipConfig& config, int64_t image_size,
                              int64_t text_vocab_size) {
  const int64_t image_width = config.image_width, text_width = config.text_width;
  const int64_t image_length = config.image_length(image_size), text_length = config.text_length;
  const int64_t patch_matrix = 3 * config.patch_size * config.patch_size * image_width;
  ClipModelCost cost{.image_block = transformer_block_parameters(image_width),
                     .text_block = transformer_block_parameters(text_width)};
  // The class embedding, positions, two normalizations and the projection, besides the blocks.
  cost.image_parameters = patch_matrix + image_width * (1 + image_length + 4 + config.embed_dim) +
                          config.image_depth * cost.image_block;
  cost.text_parameters = text_width * (text_vocab_size + 2 + text_length + 2 + config.embed_dim) +
                         config.text_depth * cost.text_block;
  // A layer: 24 operations for each pair of channels of a position, and 4 for each channel and pair
  // of positions.
  const auto layers = [](int64_t depth, int64_t width, int64_t length, int64_t pairs) {
    const auto d = static_cast<double>(width);
    return static_cast<double>(depth) *
           (24 * d * d * static_cast<double>(length) + 4 * d * static_cast<double>(pairs));
  };
  cost.image_flops =
      layers(config.image_depth, image_width, image_length, image_length * image_length) +
      2 * static_cast<double>(patch_matrix * (image_length - 1) + image_width * config.embed_dim);
  cost.text_flops =
      layers(config.text_depth, text_width, text_length, text_length * (text_length + 1) / 2) +
      2 * static_cast<double>(text_width * config.embed_dim);
  return cost;
}

}  // namespace dalle
