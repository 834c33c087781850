#include "model/dalle_model.h"

#include <cmath>

#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"
#include "nn/attention_mask.h"
#include "nn/chunked_cross_entropy.h"
#include "nn/recompute.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

/// Losses and sampling need float32 logits, whatever the precision of the rest.
constexpr Precision kLogitPrecision = Precision::kFloat32;

}  // namespace

DalleModelImpl::DalleModelImpl(const TransformerConfig& config, const SequenceLayout& layout,
                               int64_t text_vocab_size, int64_t image_vocab_size,
                               Precision precision)
    : config_(config),
      layout_(layout),
      text_vocab_size_(text_vocab_size),
      image_vocab_size_(image_vocab_size),
      precision_(precision) {
  DALLE_CHECK(!config.attention.empty());
  const int64_t width = config.width;
  const auto embedding = [&](const char* name, std::vector<int64_t> sizes) {
    return register_parameter(name, torch::zeros(sizes));
  };
  text_embedding_ = embedding("text_embedding", {text_vocab_size, width});
  pad_embedding_ = embedding("pad_embedding", {layout.text_length, width});
  start_of_text_ = embedding("start_of_text", {width});
  text_position_ = embedding("text_position", {layout.text_length, width});
  image_embedding_ = embedding("image_embedding", {image_vocab_size, width});
  start_of_image_ = embedding("start_of_image", {width});
  row_position_ = embedding("row_position", {layout.grid_height, width});
  column_position_ = embedding("column_position", {layout.grid_width, width});
  for (int64_t layer = 0; layer < config.depth; ++layer) {
    const AttentionKind kind = config.attention_of_layer(layer);
    auto& pattern = patterns_[kind];
    if (!pattern) pattern = std::make_shared<AttentionPattern>(kind, layout, config.conv_kernel);
    const TransformerBlockOptions options{.attention = {.width = width,
                                                        .heads = config.heads,
                                                        .pattern = pattern,
                                                        .precision = precision},
                                          .activation = config.activation,
                                          .dropout = config.dropout};
    blocks_.push_back(
        register_module(fmt::format("block_{}", layer + 1), TransformerBlock(options)));
  }
  norm_ = register_module("norm", LayerNorm(width));
  const int64_t text_classes =
      text_vocab_size + (config.text_loss_includes_padding ? layout.text_length : 0);
  text_head_ = register_module("text_head", Linear(width, text_classes, false, kLogitPrecision));
  image_head_ =
      register_module("image_head", Linear(width, image_vocab_size, false, kLogitPrecision));
}

void DalleModelImpl::initialize(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  const auto width = static_cast<double>(config_.width);
  const bool sparse = config_.init == TransformerInit::kSparseTransformer;
  // Child et al. 2019, section 5.4: the standard deviation of position embeddings is divided by the
  // square root of their number per state: one for text, two (row and column) for images.
  const double token = sparse ? 0.125 / std::sqrt(width) : 0.02;
  const double text_position = token;
  const double image_position = sparse ? token / std::sqrt(2.0) : 0.02;
  for (at::Tensor* tensor :
       {&text_embedding_, &pad_embedding_, &start_of_text_, &image_embedding_, &start_of_image_})
    tensor->normal_(0.0, token, generator);
  text_position_.normal_(0.0, text_position, generator);
  row_position_.normal_(0.0, image_position, generator);
  column_position_.normal_(0.0, image_position, generator);
  const WeightInit init{
      .scale = sparse ? 0.125 : 0.02,
      .by_fan_in = sparse,
      .residual_scale = 1.0 / std::sqrt(2.0 * static_cast<double>(config_.depth))};
  for (TransformerBlock& block : blocks_) block->initialize(generator, init);
  norm_->initialize();
  text_head_->initialize(generator, sparse ? 0.0 : 0.02);
  image_head_->initialize(generator, sparse ? 0.0 : 0.02);
}

/// Start-of-text, then the caption. Padding is the vector of its position, without position
/// embedding.
at::Tensor DalleModelImpl::embed_text(const at::Tensor& captions) const {
  const auto pads = captions.eq(kPadToken);  // [B, T - 1]
  const auto tokens = at::embedding(text_embedding_, captions.masked_fill(pads, 0)) +
                      text_position_.slice(0, 1);  // [B, T - 1, D]
  const auto caption =
      at::where(pads.unsqueeze(2), pad_embedding_.slice(0, 1), tokens);  // [B, T - 1, D]
  const auto start =
      (start_of_text_ + text_position_[0]).expand({captions.size(0), 1, config_.width});
  return at::cat({start, caption}, 1);  // [B, T, D]
}

/// Start-of-image, then all codes but the last, each with the position embedding of the code that
/// its state predicts.
at::Tensor DalleModelImpl::embed_image(const at::Tensor& codes) const {
  const auto start = start_of_image_.expand({codes.size(0), 1, config_.width});
  const auto tokens = at::embedding(image_embedding_, codes.slice(1, 0, -1));  // [B, N - 1, D]
  return at::cat({start, tokens}, 1) + image_positions();                      // [B, N, D]
}

/// The position embeddings of the image.
at::Tensor DalleModelImpl::image_positions() const {
  return (row_position_.unsqueeze(1) + column_position_).flatten(0, 1);  // [N, D]
}

at::Tensor DalleModelImpl::hidden_states(const at::Tensor& captions, const at::Tensor& codes,
                                         uint64_t dropout_seed) {
  DALLE_CHECK(captions.size(1) == layout_.max_caption_tokens());
  DALLE_CHECK(codes.size(1) == layout_.image_length());
  auto x = at::cat({embed_text(captions), embed_image(codes)}, 1);  // [B, length, D]
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const uint64_t seed = mix_bits(dropout_seed + layer);
    const auto block = [this, layer, seed](const at::Tensor& h) {
      return blocks_[layer]->forward(h, seed);
    };
    x = config_.recompute ? recompute(block, x) : block(x);
  }
  return norm_(x);
}

/// The token that each text state predicts, or -1: state p predicts caption token p, and the last
/// state predicts nothing. If padding is predicted too, the padding at position p is class
/// text_vocab_size + p.
at::Tensor DalleModelImpl::text_targets(const at::Tensor& captions) const {
  const auto none = at::full({captions.size(0), 1}, -1, captions.options());
  if (!config_.text_loss_includes_padding)
    return at::cat({captions, none}, 1);  // kPadToken is -1 too
  const auto pad_classes =
      text_vocab_size_ + at::arange(1, layout_.text_length, captions.options());
  return at::cat({at::where(captions.eq(kPadToken), pad_classes, captions), none}, 1);  // [B, T]
}

LossCounts DalleModelImpl::count_targets(const at::Tensor& captions) const {
  return {.samples = captions.size(0),
          .text_tokens = text_targets(captions).ge(0).sum().item<int64_t>(),
          .image_tokens = captions.size(0) * layout_.image_length()};
}

DalleLoss DalleModelImpl::loss(const at::Tensor& captions, const at::Tensor& codes,
                               const LossCounts& counts, uint64_t dropout_seed) {
  const auto x = hidden_states(to_device(captions, codes.device()), codes,
                               dropout_seed);  // [B, length, D]
  const auto parts = x.split_with_sizes({layout_.text_length, layout_.image_length()}, 1);
  const auto text_states = parts[0].flatten(0, 1);   // [B text_length, D]
  const auto image_states = parts[1].flatten(0, 1);  // [B image_length, D]
  const auto mean = [](const at::Tensor& sum, int64_t count) {
    return sum / static_cast<double>(std::max<int64_t>(count, 1));
  };
  const auto text =
      mean(chunked_cross_entropy(text_states, text_head_->weight(),
                                 text_targets(captions).flatten(), TargetRows::kSome, precision_),
           counts.text_tokens);
  const auto image = mean(chunked_cross_entropy(image_states, image_head_->weight(),
                                                codes.flatten(), TargetRows::kAll, precision_),
                          counts.image_tokens);
  const double weight = config_.text_loss_weight;
  return {.total = weight * text + (1 - weight) * image,
          .text = text.detach(),
          .image = image.detach()};
}

DecodeState DalleModelImpl::prefill(const at::Tensor& captions) {
  DALLE_CHECK(captions.size(1) == layout_.max_caption_tokens());
  DecodeState state{.layers = std::vector<KvCache>(blocks_.size()),
                    .position = torch::zeros({1}, captions.options())};
  auto x = embed_text(captions);
  for (size_t layer = 0; layer < blocks_.size(); ++layer)
    x = blocks_[layer]->prefill(x, state.layers[layer]);
  return state;
}

at::Tensor DalleModelImpl::decode_step(DecodeState& state, const at::Tensor& previous) {
  const auto token = at::where(state.position.eq(0), start_of_image_,
                               at::embedding(image_embedding_, previous));            // [B, D]
  auto x = (token + image_positions().index_select(0, state.position)).unsqueeze(1);  // [B, 1, D]
  const auto query_type =
      precision_ == Precision::kBfloat16 ? at::kBFloat16 : image_embedding_.scalar_type();
  std::map<AttentionKind, AttendedKeys> keys;
  for (const auto& [kind, pattern] : patterns_)
    keys[kind] = pattern->attended_keys(state.position, query_type);
  for (int64_t layer = 0; layer < config_.depth; ++layer) {
    const auto i = static_cast<size_t>(layer);
    x = blocks_[i]->decode_step(x, keys.at(config_.attention_of_layer(layer)), state.layers[i]);
  }
  state.position.add_(1);
  return image_head_(norm_(x)).squeeze(1).to(at::kFloat);  // [B, V]
}

DalleModelCost dalle_model_cost(const TransformerConfig& config, const SequenceLayout& layout,
                                int64_t text_vocab_size, int64_t image_vocab_size) {
  const int64_t width = config.width, text = layout.text_length, image = layout.image_length();
  const int64_t text_classes = text_vocab_size + (config.text_loss_includes_padding ? text : 0);
  DalleModelCost cost{.embeddings = width * (text_vocab_size + image_vocab_size + 2 * text + 2 +
                                             layout.grid_height + layout.grid_width),
                      .block = transformer_block_parameters(width),
                      .norm = 2 * width,
                      .text_head = width * text_classes,
                      .image_head = width * image_vocab_size};
  for (int64_t layer = 0; layer < config.depth; ++layer) {
    cost.attention_pairs += text * (text + 1) / 2 + image * text;
    for (const int64_t distance :
         attended_distances(config.attention_of_layer(layer), layout, config.conv_kernel))
      cost.attention_pairs += image - distance;
  }
  const auto d = static_cast<double>(width);
  cost.forward_flops =
      24 * static_cast<double>(config.depth) * d * d * static_cast<double>(layout.length()) +
      4 * d * static_cast<double>(cost.attention_pairs) +
      2 * d * static_cast<double>(text * text_classes + image * image_vocab_size);
  return cost;
}

}  // namespace dalle
