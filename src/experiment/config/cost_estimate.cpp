#include "experiment/config/cost_estimate.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/discrete_vae.h"
#include "nn/chunked_cross_entropy.h"
#include "parallel/gradient_reducer.h"
#include "sample/generate_codes.h"
#include "sample/guidance.h"
#include "tensor/precision.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kIndexBytes = 8;  // of max pooling

int64_t bytes_of(Precision precision) {
  return precision == Precision::kBfloat16 ? 2 : kFloatBytes;
}

/// What a rank computes at once.
int64_t micro_batch_of(const TrainConfig& train, int64_t ranks) {
  const int64_t of_rank = std::max<int64_t>(1, round_up(train.batch_size, ranks) / ranks);
  return train.micro_batch_size == 0 ? of_rank : std::min(train.micro_batch_size, of_rank);
}

/// Bytes of the copies in which gradients are sent, see GradientReducer::kMostInFlight.
int64_t sent_copies(int64_t parameters, const DistributedConfig& distributed, int64_t ranks) {
  if (ranks == 1) return 0;
  const auto bucket = std::min(
      parameters, static_cast<int64_t>(distributed.bucket_mb * 1e6) / kFloatBytes);  // values
  if (distributed.bitwise) return bucket * kFloatBytes;
  const bool narrow = distributed.reduce_dtype == Precision::kBfloat16;
  if (!narrow && !distributed.shard_optimizer) return 0;  // they are summed in place
  const int64_t sent = std::min(parameters, GradientReducer::kMostInFlight * bucket);
  const int64_t received = distributed.shard_optimizer ? sent / ranks : 0;
  return (sent + received) * (narrow ? 2 : kFloatBytes);
}

/// Levels of the tree in which distributed.bitwise sums a rank's micro-batches; a gradient each.
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
      distributed.bitwise ? tree_levels(train, micro_batch_of(train, ranks), ranks) : 0;
  return {.weights = bytes,
          .gradients = bytes,
          .moments = 2 * bytes / owners,
          .ema = bytes / owners,
          .partial_sums = levels * bytes,
          .sent_copies = sent_copies(parameters, distributed, ranks),
          .saving = bytes * (round_up(MemoryEstimate::kSavedTensors, ranks) / ranks)};
}

/// Sums over the convolutions of an encoder or a decoder.
struct ConvolutionTotals {
  explicit ConvolutionTotals(const std::vector<ConvolutionShape>& convolutions) {
    for (const ConvolutionShape& shape : convolutions) {
      const int64_t pixels = shape.side * shape.side;
      parameters += shape.parameters();
      flops += shape.flops();
      inputs += shape.in_channels * pixels;
      largest = std::max(largest, std::max(shape.in_channels, shape.out_channels) * pixels);
    }
  }

  int64_t parameters = 0;
  double flops = 0;
  int64_t inputs = 0;   // values that the backward pass reads
  int64_t largest = 0;  // values of the largest tensor
};

/// Bytes that the backward pass of one layer reads, a token.
int64_t layer_bytes_per_token(int64_t width, int64_t heads, int64_t value_bytes) {
  const int64_t residual = 2 * width * kFloatBytes;  // the inputs of both normalizations
  const int64_t attention = (1 + 3 + 1) * width * value_bytes + heads * kFloatBytes;
  const int64_t mlp = (1 + 4 + 4) * width * value_bytes;
  return residual + attention + mlp;
}

/// Bytes that the backward pass of a transformer's layers reads, of `tokens` in total.
int64_t layers_bytes(int64_t depth, int64_t width, int64_t heads, int64_t tokens,
                     int64_t value_bytes, bool recompute) {
  const int64_t layer = tokens * layer_bytes_per_token(width, heads, value_bytes);
  const int64_t stream = tokens * width * kFloatBytes;
  return recompute ? depth * stream + layer : depth * layer;
}

/// Adds what a step takes on top of the resident memory.
void add_step(const ExperimentConfig& config, const DalleModelCost& model_cost,
              int64_t micro_batch_size, bool recompute, MemoryEstimate& memory) {
  const TransformerConfig& model = config.dalle.model;
  const int64_t value_bytes = bytes_of(config.dalle.train.precision);
  const int64_t tokens = micro_batch_size * config.layout().length();
  const int64_t stream = tokens * model.width * kFloatBytes;
  const int64_t larger_head = std::max(model_cost.text_head, model_cost.image_head);
  // Two chunks of logits in float32 (values and gradients; those of a CPU are smaller), the stream
  // before the heads, and the gradients of both heads' weights, which the loss computes, with
  // a product of one.
  const int64_t chunk = std::min(tokens, kGpuLossChunk);
  const int64_t heads = 2 * chunk * (larger_head / model.width) * kFloatBytes + 2 * stream +
                        (model_cost.text_head + model_cost.image_head + larger_head) * kFloatBytes;
  memory.activations =
      heads + layers_bytes(model.depth, model.width, model.heads, tokens, value_bytes, recompute);
  if (config.dalle.train.precision != Precision::kBfloat16) return;
  // A layer's copies live until its backward pass, except where recomputation makes them again.
  memory.compute_weights = value_bytes * (recompute ? std::max(model_cost.block, larger_head)
                                                    : model.depth * model_cost.block + larger_head);
}

/// Bytes needed to generate sample images, on a GPU or on a CPU, whichever is more.
int64_t sampling_bytes(const ExperimentConfig& config, const DalleModelCost& cost) {
  const TransformerConfig& model = config.dalle.model;
  const int64_t value_bytes = bytes_of(config.dalle.train.precision);
  const int64_t sequences = sequences_per_image(config.sample) *
                            default_batch_size(model, config.layout(), config.sample);
  const int64_t layer = 2 * sequences * config.layout().length() * model.width;
  // Keys and values, the copies of them that one layer reads, and that layer's weights.
  const int64_t on_gpu = (model.depth + 1) * layer * value_bytes +
                         (value_bytes < kFloatBytes ? cost.block * value_bytes : 0);
  // Keys and values, and the packed weights of a CpuDecoder.
  const int64_t on_cpu = model.depth * (layer * kFloatBytes + cost.block * value_bytes) +
                         cost.image_head * kFloatBytes;
  return std::max(on_gpu, on_cpu);
}

std::string count_text(int64_t count) {
  return fmt::format("{}", fmt::group_digits(count));
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
  const std::pair<std::string, int64_t> parts[] = {
      {"memory: weights", memory.weights},
      {"  gradients", memory.gradients},
      {"  optimizer moments", memory.moments},
      {"  EMA of the weights", memory.ema},
      {"  partial sums (bitwise)", memory.partial_sums},
      {"  frozen dVAE", memory.frozen_weights},
      {"  bfloat16 weights", memory.compute_weights},
      {fmt::format("  activations, micro-batch {}", micro_batch_size), memory.activations},
      {"  gradients in transit", memory.sent_copies},
      {"  or sample images (between steps)", memory.sampling}};
  std::string text;
  for (const auto& [name, bytes] : parts)
    if (bytes > 0) text += row(name, bytes_text(bytes));
  text += row("  peak", bytes_text(memory.total())) + alternatives;
  text += row("host memory while saving", bytes_text(memory.saving));
  return text + row("checkpoint", bytes_text(memory.checkpoint()));
}

std::string forward_text(const DvaeCost& cost) {
  std::string text = "dVAE\n";
  text += row("parameters: encoder", count_text(cost.encoder_parameters));
  text += row("  decoder", count_text(cost.decoder_parameters));
  text += row("  total", count_text(cost.parameters()));
  text += row("FLOPs per image: encoder forward", flops_text(cost.encoder_flops));
  return text + row("  decoder forward", flops_text(cost.decoder_flops));
}

}  // namespace

DvaeCost estimate_dvae_cost(const ExperimentConfig& config, int64_t ranks) {
  const DiscreteVaeConfig& model = config.dvae.model;
  const int64_t size = config.data.image_size;
  const DvaeConvolutions convolutions = dvae_convolutions(model, size);
  const ConvolutionTotals encoder(convolutions.encoder), decoder(convolutions.decoder);
  const Precision precision = config.dvae.train.precision;
  const int64_t parameters = encoder.parameters + decoder.parameters;
  const int64_t grid = model.grid_size(size);
  double encoder_flops = encoder.flops;
  if (model.logits == LogitKind::kDistance)  // the products with the codebook
    encoder_flops += ConvolutionShape{model.codebook_width, model.vocab_size, 1, grid}.flops();
  DvaeCost cost{
      .encoder_parameters = encoder.parameters,
      .decoder_parameters = decoder.parameters,
      .encoder_flops = encoder_flops,
      .decoder_flops = decoder.flops,
      .training_flops = 3 * (encoder_flops + decoder.flops),
      .micro_batch_size = micro_batch_of(config.dvae.train, ranks),
      .memory = memory_of_parameters(parameters, config.dvae.train, config.distributed, ranks)};
  if (precision == Precision::kBfloat16)
    cost.memory.compute_weights = bytes_of(precision) * parameters;
  // Max pooling keeps its inputs, and an index for each output.
  int64_t pooled = 0;
  for (int64_t group = 1; group < model.groups; ++group)
    pooled += model.width_of_group(group) * (size >> (group - 1)) * (size >> (group - 1));
  // In float32: the logits, the posterior and its logarithm, or other latents and what they are
  // compared with; mean, scale and terms of the pixels.
  const int64_t latents =
      model.bottleneck == BottleneckKind::kGumbel ? model.vocab_size : model.latent_channels();
  const int64_t loss_values = 3 * latents * grid * grid + 12 * size * size;
  // The backward pass holds the gradients on both sides of one convolution.
  const int64_t in_flight = 2 * std::max(encoder.largest, decoder.largest);
  const int64_t sample_bytes =
      (encoder.inputs + decoder.inputs + pooled + in_flight) * bytes_of(precision) +
      pooled / 4 * kIndexBytes + loss_values * kFloatBytes;
  cost.memory.activations = cost.micro_batch_size * sample_bytes;
  return cost;
}

DalleCost estimate_dalle_cost(const ExperimentConfig& config, int64_t text_vocab_size,
                              int64_t ranks) {
  const DvaeCost dvae = estimate_dvae_cost(config, ranks);
  const TransformerConfig& model = config.dalle.model;
  DalleCost cost{
      dalle_model_cost(model, config.layout(), text_vocab_size, config.dvae.model.vocab_size)};
  cost.block_parameters = model.depth * cost.block;
  cost.head_parameters = cost.norm + cost.text_head + cost.image_head;
  cost.training_flops = 3 * cost.forward_flops;
  cost.token_flops = config.dalle.cache_codes ? 0 : dvae.encoder_flops;
  cost.micro_batch_size = micro_batch_of(config.dalle.train, ranks);
  cost.memory =
      memory_of_parameters(cost.parameters(), config.dalle.train, config.distributed, ranks);
  cost.memory.frozen_weights = dvae.parameters() * kFloatBytes;
  cost.memory.sampling = sampling_bytes(config, cost);
  cost.memory_with_recompute = cost.memory_without_recompute = cost.memory;
  add_step(config, cost, cost.micro_batch_size, true, cost.memory_with_recompute);
  add_step(config, cost, cost.micro_batch_size, false, cost.memory_without_recompute);
  cost.memory = model.recompute ? cost.memory_with_recompute : cost.memory_without_recompute;
  return cost;
}

ClipCost estimate_clip_cost(const ExperimentConfig& config, int64_t text_vocab_size,
                            int64_t ranks) {
  const ClipConfig& model = config.clip->model;
  const ClipTrainConfig& train = config.clip->train;
  const int64_t image_length = model.image_length(config.data.image_size);
  ClipCost cost{clip_model_cost(model, config.data.image_size, text_vocab_size)};
  cost.training_flops = 3 * (cost.image_flops + cost.text_flops);
  cost.micro_batch_size = micro_batch_of(train, ranks);
  cost.memory = memory_of_parameters(cost.parameters(), train, config.distributed, ranks);
  const int64_t value_bytes = bytes_of(train.precision);
  // Similarities of the global batch: plain and scaled, both softmaxes, the targets, and the
  // gradients of three of them. The pixels and the patches of the images.
  const int64_t similarities = 8 * train.batch_size * train.batch_size * kFloatBytes;
  const int64_t pixels = 2 * 3 * config.data.image_size * config.data.image_size * kFloatBytes;
  cost.memory.activations =
      similarities + cost.micro_batch_size * pixels +
      layers_bytes(model.image_depth, model.image_width, model.image_heads,
                   cost.micro_batch_size * image_length, value_bytes, model.recompute) +
      layers_bytes(model.text_depth, model.text_width, model.text_heads,
                   cost.micro_batch_size * model.text_length, value_bytes, model.recompute);
  if (train.precision == Precision::kBfloat16)
    cost.memory.compute_weights =
        value_bytes * (model.recompute ? std::max(cost.image_block, cost.text_block)
                                       : model.image_depth * cost.image_block +
                                             model.text_depth * cost.text_block);
  return cost;
}

std::string to_text(const DvaeCost& cost) {
  return forward_text(cost) + row("  training", flops_text(cost.training_flops)) +
         memory_text(cost.memory, cost.micro_batch_size);
}

std::string to_text(const DalleCost& cost) {
  std::string text = "transformer\n";
  text += row("parameters: embeddings", count_text(cost.embeddings));
  text += row("  blocks", count_text(cost.block_parameters));
  text += row("  heads", count_text(cost.head_parameters));
  text += row("  total", count_text(cost.parameters()));
  text += row("attention pairs, all layers", count_text(cost.attention_pairs));
  text += row("FLOPs per sequence: forward", flops_text(cost.forward_flops));
  text += row("  training", flops_text(cost.training_flops));
  if (cost.token_flops > 0)
    text += row("  dVAE encoding of its image", flops_text(cost.token_flops));
  return text +
         memory_text(cost.memory, cost.micro_batch_size,
                     row("  peak with recompute", bytes_text(cost.memory_with_recompute.total())) +
                         row("  peak without recompute",
                             bytes_text(cost.memory_without_recompute.total())));
}

std::string to_text(const ClipCost& cost) {
  std::string text = "contrastive model\n";
  text += row("parameters: images", count_text(cost.image_parameters));
  text += row("  captions", count_text(cost.text_parameters));
  text += row("  total", count_text(cost.parameters()));
  text += row("FLOPs per image: forward", flops_text(cost.image_flops));
  text += row("FLOPs per caption: forward", flops_text(cost.text_flops));
  text += row("FLOPs per pair: training", flops_text(cost.training_flops));
  return text + memory_text(cost.memory, cost.micro_batch_size);
}

std::string cost_report(const ExperimentConfig& config, int64_t ranks) {
  const std::string optimizer = config.distributed.shard_optimizer ? "sharded" : "replicated";
  const std::string heading =
      ranks == 1 ? ""
                 : fmt::format("memory per rank, {} ranks, optimizer state {}\n", ranks, optimizer);
  const DvaeCost dvae = estimate_dvae_cost(config, ranks);
  const std::string& given =
      config.dvae.checkpoint.empty() ? config.from.checkpoint : config.dvae.checkpoint;
  return heading +
         (config.trains_dvae() ? to_text(dvae)
                               : forward_text(dvae) + fmt::format("  not trained: {}\n", given)) +
         to_text(estimate_dalle_cost(config, config.tokenizer.vocab_size, ranks)) +
         (config.clip ? to_text(estimate_clip_cost(config, config.tokenizer.vocab_size, ranks))
                      : "");
}

}  // namespace dalle
