#include "dalle/train/cost_estimate.h"

#include <algorithm>
#include <bit>
#include <map>

#include <fmt/format.h>

#include "dalle/core/round_up.h"
#include "dalle/nn/attention_mask.h"
#include "dalle/sample/image_generator.h"
#include "dalle/train/gradient_reducer.h"

namespace dalle {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kIndexBytes = 8;             // of max pooling
constexpr int64_t kLossChunkPositions = 1024;  // whose logits exist at once

int64_t bytes_of(Precision precision) {
  return precision == Precision::kBfloat16 ? 2 : kFloatBytes;
}

/// What a rank computes at once.
int64_t micro_batch_of(const TrainConfig& train, int64_t ranks) {
  const int64_t of_rank = std::max<int64_t>(1, round_up(train.batch_size, ranks) / ranks);
  return train.micro_batch_size == 0 ? of_rank : std::min(train.micro_batch_size, of_rank);
}

/// Copies in which gradients travel, see GradientReducer::kMostInFlight.
int64_t sent_copies(int64_t parameters, const DistributedConfig& distributed, int64_t ranks) {
  if (ranks == 1) return 0;
  const auto bucket = std::min(
      parameters, static_cast<int64_t>(distributed.bucket_mb * 1e6) / kFloatBytes);  // values
  if (distributed.exact) return bucket * kFloatBytes;
  const bool narrow = distributed.reduce_dtype == ReduceType::kBfloat16;
  if (!narrow && !distributed.shard_optimizer) return 0;  // they are added up in place
  const int64_t sent = std::min(parameters, GradientReducer::kMostInFlight * bucket);
  const int64_t received = distributed.shard_optimizer ? sent / ranks : 0;
  return (sent + received) * (narrow ? 2 : kFloatBytes);
}

/// Levels of the tree in which exact training adds up a rank's micro-batches; a gradient each.
int64_t tree_levels(const TrainConfig& train, int64_t micro_batch_size, int64_t ranks) {
  const int64_t terms = std::max<int64_t>(1, train.batch_size / (micro_batch_size * ranks));
  return std::bit_width(static_cast<uint64_t>(terms));
}

/// What depends on the number of parameters alone.
MemoryEstimate memory_of_parameters(int64_t parameters, const TrainConfig& train,
                                    const DistributedConfig& distributed, int64_t ranks) {
  const int64_t bytes = parameters * kFloatBytes;
  const int64_t owners = distributed.shard_optimizer ? ranks : 1;
  const int64_t levels =
      distributed.exact ? tree_levels(train, micro_batch_of(train, ranks), ranks) : 0;
  return {.weights = bytes,
          .gradients = bytes,
          .moments = 2 * bytes / owners,
          .average = bytes / owners,
          .exact_sums = levels * bytes,
          .sent_copies = sent_copies(parameters, distributed, ranks),
          .saving = bytes * (round_up(MemoryEstimate::kSavedTensors, ranks) / ranks)};
}

/// Adds up the convolutions of an encoder or a decoder.
class ConvolutionCounter {
 public:
  explicit ConvolutionCounter(int64_t image_size) : side_(image_size) {}

  /// Stride 1, same padding, with biases. The backward pass reads the input.
  void convolution(int64_t channels_in, int64_t channels_out, int64_t kernel) {
    const int64_t weights = channels_in * channels_out * kernel * kernel;
    parameters += weights + channels_out;
    flops += 2.0 * static_cast<double>(weights) * static_cast<double>(side_ * side_);
    kept_values += channels_in * side_ * side_;
    largest_tensor = std::max(largest_tensor, std::max(channels_in, channels_out) * side_ * side_);
  }

  /// @param first_kernel, last_kernel  3 and 1 in the encoder, 1 and 3 in the decoder
  void residual_block(int64_t channels_in, int64_t channels_out, int64_t first_kernel,
                      int64_t last_kernel) {
    const int64_t hidden = channels_out / 4;
    if (channels_in != channels_out) convolution(channels_in, channels_out, 1);
    convolution(channels_in, hidden, first_kernel);
    convolution(hidden, hidden, 3);
    convolution(hidden, hidden, 3);
    convolution(hidden, channels_out, last_kernel);
  }

  void max_pool(int64_t channels) {
    kept_values += channels * side_ * side_;
    side_ /= 2;
    index_values += channels * side_ * side_;
  }

  void upsample() { side_ *= 2; }

  int64_t parameters = 0;
  double flops = 0;
  int64_t kept_values = 0;  // in the type of the convolutions
  int64_t index_values = 0;
  int64_t largest_tensor = 0;  // values

 private:
  int64_t side_;
};

ConvolutionCounter count_encoder(const DiscreteVaeConfig& model, int64_t image_size) {
  ConvolutionCounter count(image_size);
  int64_t channels = model.hidden;
  count.convolution(3, channels, 7);
  for (int64_t group = 0; group < model.groups; ++group) {
    const int64_t width = model.hidden << group;
    for (int64_t block = 0; block < model.blocks_per_group; ++block) {
      count.residual_block(channels, width, 3, 1);
      channels = width;
    }
    if (group + 1 < model.groups) count.max_pool(channels);
  }
  count.convolution(channels, model.vocab_size, 1);
  return count;
}

ConvolutionCounter count_decoder(const DiscreteVaeConfig& model, int64_t image_size) {
  ConvolutionCounter count(model.grid_size(image_size));
  int64_t channels = model.codebook_width;
  count.convolution(model.vocab_size, channels, 1);
  for (int64_t group = model.groups - 1; group >= 0; --group) {
    const int64_t width = model.hidden << group;
    for (int64_t block = 0; block < model.blocks_per_group; ++block) {
      count.residual_block(channels, width, 1, 3);
      channels = width;
    }
    if (group > 0) count.upsample();
  }
  count.convolution(channels, 6, 1);
  return count;
}

int64_t attention_pairs(const TransformerConfig& model, const SequenceLayout& layout) {
  const int64_t text = layout.text_length;
  const int64_t image = layout.image_length();
  std::map<AttentionKind, int64_t> image_pairs;
  int64_t pairs = 0;
  for (int64_t layer = 0; layer < model.depth; ++layer) {
    const AttentionKind kind = model.attention_of_layer(layer);
    const auto [of_kind, is_new] = image_pairs.try_emplace(kind, 0);
    if (is_new)
      for (const int64_t distance : attended_distances(kind, layout, model.conv_kernel))
        of_kind->second += image - distance;
    pairs += text * (text + 1) / 2 + image * text + of_kind->second;
  }
  return pairs;
}

/// Bytes that the backward pass of one layer reads, a token.
int64_t layer_bytes_per_token(const TransformerConfig& model, int64_t value_bytes) {
  const int64_t residual = 2 * model.width * kFloatBytes;  // the inputs of both normalisations
  const int64_t attention = (1 + 3 + 1) * model.width * value_bytes + model.heads * kFloatBytes;
  const int64_t mlp = (1 + 4 + 4) * model.width * value_bytes;
  return residual + attention + mlp;
}

/// Weights of one layer, and of the heads for text and image, that are multiplied by.
struct MatrixSizes {
  int64_t block = 0;
  int64_t text_head = 0;
  int64_t image_head = 0;

  int64_t larger_head() const { return std::max(text_head, image_head); }
};

/// Fills in what a step takes beside the resident memory.
void add_step(const ExperimentConfig& config, const MatrixSizes& sizes, int64_t micro_batch_size,
              bool recompute, MemoryEstimate& memory) {
  const TransformerConfig& model = config.dalle.model;
  const int64_t value_bytes = bytes_of(config.dalle.train.precision);
  const int64_t tokens = micro_batch_size * config.layout().length();
  const int64_t layer = tokens * layer_bytes_per_token(model, value_bytes);
  const int64_t stream = tokens * model.width * kFloatBytes;
  // Two chunks of logits in float32 (values and gradients), the stream before the heads, and the
  // gradients of both heads' weights, which the loss computes, with a product of one.
  const int64_t chunk = std::min(tokens, kLossChunkPositions);
  const int64_t heads = 2 * chunk * (sizes.larger_head() / model.width) * kFloatBytes + 2 * stream +
                        (sizes.text_head + sizes.image_head + sizes.larger_head()) * kFloatBytes;
  memory.activations = heads + (recompute ? model.depth * stream + layer : model.depth * layer);
  if (config.dalle.train.precision != Precision::kBfloat16) return;
  // A layer's copies live until its backward pass, but where that makes them anew.
  memory.compute_weights =
      value_bytes * (recompute ? std::max(sizes.block, sizes.larger_head())
                               : model.depth * sizes.block + sizes.larger_head());
}

/// Bytes of the keys and values of sample images, the copies of them that one layer reads, and that
/// layer's weights.
int64_t sampling_bytes(const ExperimentConfig& config, const MatrixSizes& sizes) {
  const TransformerConfig& model = config.dalle.model;
  const Precision precision = config.dalle.train.precision;
  const int64_t layer =
      2 * kRowsAtOnce * config.layout().length() * model.width * bytes_of(precision);
  const int64_t weights = precision == Precision::kBfloat16 ? sizes.block * bytes_of(precision) : 0;
  return (model.depth + 1) * layer + weights;
}

std::string count_text(int64_t count) {
  std::string text = std::to_string(count);
  for (auto place = static_cast<int64_t>(text.size()) - 3; place > 0; place -= 3)
    text.insert(static_cast<size_t>(place), ",");
  return text;
}

std::string flops_text(double flops) {
  if (flops >= 1e12) return fmt::format("{:.2f} TFLOP", flops / 1e12);
  if (flops >= 1e9) return fmt::format("{:.2f} GFLOP", flops / 1e9);
  return fmt::format("{:.2f} MFLOP", flops / 1e6);
}

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 0x1p30) return fmt::format("{:.2f} GiB", value / 0x1p30);
  return fmt::format("{:.1f} MiB", value / 0x1p20);
}

std::string row(std::string_view name, const std::string& value) {
  return fmt::format("  {:<34}{:>18}\n", name, value);
}

std::string memory_text(const MemoryEstimate& memory, int64_t micro_batch_size,
                        const std::string& alternatives = "") {
  std::string text = row("memory: weights", bytes_text(memory.weights));
  text += row("  gradients", bytes_text(memory.gradients));
  text += row("  optimizer moments", bytes_text(memory.moments));
  text += row("  average of the weights", bytes_text(memory.average));
  if (memory.exact_sums > 0)
    text += row("  partial sums, for exact", bytes_text(memory.exact_sums));
  if (memory.frozen_weights > 0) text += row("  frozen dVAE", bytes_text(memory.frozen_weights));
  if (memory.compute_weights > 0)
    text += row("  bfloat16 weights", bytes_text(memory.compute_weights));
  text += row(fmt::format("  activations, micro-batch {}", micro_batch_size),
              bytes_text(memory.activations));
  if (memory.sent_copies > 0) text += row("  gradients in transit", bytes_text(memory.sent_copies));
  if (memory.sampling > 0)
    text += row("  or sample images, between steps", bytes_text(memory.sampling));
  text += row("  peak", bytes_text(memory.total())) + alternatives;
  text += row("host memory while saving", bytes_text(memory.saving));
  return text + row("checkpoint", bytes_text(memory.checkpoint()));
}

}  // namespace

DvaeCost estimate_dvae_cost(const ExperimentConfig& config, int64_t ranks) {
  const DiscreteVaeConfig& model = config.dvae.model;
  const int64_t size = config.data.image_size;
  const ConvolutionCounter encoder = count_encoder(model, size);
  const ConvolutionCounter decoder = count_decoder(model, size);
  const Precision precision = config.dvae.train.precision;
  DvaeCost cost{.encoder_parameters = encoder.parameters,
                .decoder_parameters = decoder.parameters,
                .encoder_flops = encoder.flops,
                .decoder_flops = decoder.flops,
                .training_flops = 3 * (encoder.flops + decoder.flops),
                .micro_batch_size = micro_batch_of(config.dvae.train, ranks),
                .memory = memory_of_parameters(encoder.parameters + decoder.parameters,
                                               config.dvae.train, config.distributed, ranks)};
  if (precision == Precision::kBfloat16)
    cost.memory.compute_weights = bytes_of(precision) * cost.parameters();
  const int64_t grid = model.grid_size(size);
  // In float32: the logits, the posterior and its logarithm; mean, scale and terms of the pixels.
  const int64_t loss_values = 3 * model.vocab_size * grid * grid + 12 * size * size;
  // The backward pass holds the gradients on both sides of one convolution.
  const int64_t in_flight = 2 * std::max(encoder.largest_tensor, decoder.largest_tensor);
  const int64_t sample_bytes =
      (encoder.kept_values + decoder.kept_values + in_flight) * bytes_of(precision) +
      encoder.index_values * kIndexBytes + loss_values * kFloatBytes;
  cost.memory.activations = cost.micro_batch_size * sample_bytes;
  return cost;
}

DalleCost estimate_dalle_cost(const ExperimentConfig& config, int64_t text_vocab_size,
                              int64_t ranks) {
  const DvaeCost dvae = estimate_dvae_cost(config, ranks);
  const TransformerConfig& model = config.dalle.model;
  const SequenceLayout layout = config.layout();
  const int64_t width = model.width;
  const int64_t text = layout.text_length;
  const int64_t image_vocab = config.dvae.model.vocab_size;
  const int64_t text_classes = text_vocab_size + (model.text_loss_includes_padding ? text : 0);

  // Tokens of both kinds, a pad and a position for each text slot, start-of-text and
  // start-of-image, rows and columns.
  const int64_t embeddings = width * (text_vocab_size + image_vocab + 2 * text + 2 +
                                      layout.grid_height + layout.grid_width);
  // Two normalisations (4d), queries, keys and values (3d^2 + 3d), projection (d^2 + d), and the
  // MLP (8d^2 + 5d).
  const int64_t block = 12 * width * width + 13 * width;
  const int64_t heads = 2 * width + width * (text_classes + image_vocab);

  DalleCost cost{.embedding_parameters = embeddings,
                 .block_parameters = model.depth * block,
                 .head_parameters = heads,
                 .attention_pairs = attention_pairs(model, layout),
                 .micro_batch_size = micro_batch_of(config.dalle.train, ranks)};
  const auto d = static_cast<double>(width);
  cost.forward_flops =
      24 * static_cast<double>(model.depth) * d * d * static_cast<double>(layout.length()) +
      4 * d * static_cast<double>(cost.attention_pairs) +
      2 * d * static_cast<double>(text * text_classes + layout.image_length() * image_vocab);
  cost.training_flops = 3 * cost.forward_flops;
  cost.token_flops = config.dalle.cache_codes ? 0 : dvae.encoder_flops;
  const MatrixSizes sizes{
      .block = block, .text_head = width * text_classes, .image_head = width * image_vocab};
  cost.memory =
      memory_of_parameters(cost.parameters(), config.dalle.train, config.distributed, ranks);
  cost.memory.frozen_weights = dvae.parameters() * kFloatBytes;
  cost.memory.sampling = sampling_bytes(config, sizes);
  cost.memory_with_recompute = cost.memory_without_recompute = cost.memory;
  add_step(config, sizes, cost.micro_batch_size, true, cost.memory_with_recompute);
  add_step(config, sizes, cost.micro_batch_size, false, cost.memory_without_recompute);
  cost.memory = model.recompute ? cost.memory_with_recompute : cost.memory_without_recompute;
  return cost;
}

std::string to_text(const DvaeCost& cost) {
  std::string text = "dVAE\n";
  text += row("parameters: encoder", count_text(cost.encoder_parameters));
  text += row("  decoder", count_text(cost.decoder_parameters));
  text += row("  total", count_text(cost.parameters()));
  text += row("a picture: encoder forward", flops_text(cost.encoder_flops));
  text += row("  decoder forward", flops_text(cost.decoder_flops));
  text += row("  training", flops_text(cost.training_flops));
  return text + memory_text(cost.memory, cost.micro_batch_size);
}

std::string to_text(const DalleCost& cost) {
  std::string text = "transformer\n";
  text += row("parameters: embeddings", count_text(cost.embedding_parameters));
  text += row("  blocks", count_text(cost.block_parameters));
  text += row("  heads", count_text(cost.head_parameters));
  text += row("  total", count_text(cost.parameters()));
  text += row("attention pairs, all layers", count_text(cost.attention_pairs));
  text += row("a sequence: forward", flops_text(cost.forward_flops));
  text += row("  training", flops_text(cost.training_flops));
  if (cost.token_flops > 0)
    text += row("  its image tokens, by the dVAE", flops_text(cost.token_flops));
  return text +
         memory_text(cost.memory, cost.micro_batch_size,
                     row("  peak with recompute", bytes_text(cost.memory_with_recompute.total())) +
                         row("  peak without recompute",
                             bytes_text(cost.memory_without_recompute.total())));
}

std::string cost_report(const ExperimentConfig& config, int64_t ranks) {
  const std::string shared = config.distributed.shard_optimizer ? "shared out" : "whole on each";
  const std::string heading =
      ranks == 1 ? "" : fmt::format("memory of one of {} ranks, the optimizer {}\n", ranks, shared);
  return heading + to_text(estimate_dvae_cost(config, ranks)) +
         to_text(estimate_dalle_cost(config, config.tokenizer.vocab_size, ranks));
}

}  // namespace dalle
