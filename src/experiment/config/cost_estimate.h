#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "experiment/config/experiment_config.h"
#include "model/clip_model.h"
#include "model/dalle_model.h"

namespace dalle {

/// Expected memory of a training stage, in bytes; of one rank, if there are several.
///
/// A stage holds resident() from its first step to its last. Neither its construction nor reading a
/// checkpoint, evaluating or saving takes more of the device: a sharded state is gathered in the
/// memory of the gradients.
struct MemoryEstimate {
  int64_t weights = 0;         ///< float32, under every precision
  int64_t gradients = 0;       ///< float32
  int64_t moments = 0;         ///< AdamW's two, float32; with shard_optimizer a rank's part
  int64_t ema = 0;             ///< exponential moving average of the weights; likewise
  int64_t partial_sums = 0;    ///< of gradients, for distributed.bitwise
  int64_t frozen_weights = 0;  ///< of the dVAE while the transformer trains

  int64_t compute_weights = 0;  ///< in a step: bfloat16 copies of weights, under that precision
  int64_t activations = 0;      ///< in a step: of one micro-batch
  /// In a step: copies of the buckets of gradients that are in transit at once, at most. Gloo and
  /// reduce_dtype need all of them; NCCL needs less in float32.
  int64_t sent_copies = 0;
  int64_t sampling = 0;  ///< while sample images are generated, between two steps

  /// Host memory (on a CPU: in addition to the above) while a checkpoint is written: the copy of
  /// what is saved, on the rank that writes the most. Reading one takes no more.
  int64_t saving = 0;

  int64_t resident() const {
    return weights + gradients + moments + ema + partial_sums + frozen_weights;
  }
  /// The peak during steps.
  int64_t training() const { return resident() + compute_weights + activations + sent_copies; }
  /// The overall peak.
  int64_t total() const { return std::max(training(), resident() + sampling); }
  /// The size of a checkpoint, apart from a few kilobytes of text.
  int64_t checkpoint() const { return kSavedTensors * weights; }

  static constexpr int64_t kSavedTensors = 4;  ///< weights, EMA and two moments, each in full
};

/// Cost of the dVAE. A multiplication and an addition count as two operations.
struct DvaeCost {
  int64_t encoder_parameters = 0;
  int64_t decoder_parameters = 0;
  double encoder_flops = 0;  ///< forward, of one image
  double decoder_flops = 0;
  double training_flops = 0;  ///< forward and backward of one image; backward is twice forward
  int64_t micro_batch_size = 0;
  MemoryEstimate memory = {};

  int64_t parameters() const { return encoder_parameters + decoder_parameters; }
};

/// Cost of the transformer, and of encoding the images that it trains on.
struct DalleCost : DalleModelCost {
  int64_t block_parameters = 0;  ///< all layers
  int64_t head_parameters = 0;   ///< last normalization and both heads
  /// Forward and backward of one sequence. Only useful work: excludes recomputation and the
  /// encoding of images.
  double training_flops = 0;
  double token_flops = 0;  ///< the dVAE's encoder for one image; 0 where codes are cached
  int64_t micro_batch_size = 0;
  MemoryEstimate memory = {};                    ///< as configured
  MemoryEstimate memory_with_recompute = {};     ///< as if recompute were on
  MemoryEstimate memory_without_recompute = {};  ///< as if recompute were off

  int64_t parameters() const { return embeddings + block_parameters + head_parameters; }
};

/// Cost of the contrastive model.
struct ClipCost : ClipModelCost {
  double training_flops = 0;  ///< forward and backward of an image and its caption
  int64_t micro_batch_size = 0;
  MemoryEstimate memory = {};
};

/// What the stages of an experiment cost, from the shapes of the models: none is constructed, so
/// the paper's 12 billion parameters take as long as a toy's.
///
/// Parameters and operations are exact (matrix products, convolutions and unmasked attention pairs;
/// element-wise work is left out), and so is resident() memory, but for sums over blocks of a
/// thousand weights. Activations are those that the backward pass reads: the inputs of
/// convolutions, matrix products and normalizations, without attention scores and with a chunk of
/// the logits at a time. Allocators add to that.
///
/// @param config           valid, see validate()
/// @param text_vocab_size  tokens of the tokenizer; one that is not trained yet has at most
///                         `tokenizer.vocab_size`
/// @param ranks            that train together; decides only the memory
DvaeCost estimate_dvae_cost(const ExperimentConfig& config, int64_t ranks = 1);
DalleCost estimate_dalle_cost(const ExperimentConfig& config, int64_t text_vocab_size,
                              int64_t ranks = 1);

/// The config must have a `clip` section.
ClipCost estimate_clip_cost(const ExperimentConfig& config, int64_t text_vocab_size,
                            int64_t ranks = 1);

/// The estimates as tables for people.
std::string to_text(const DvaeCost& cost);
std::string to_text(const DalleCost& cost);
std::string to_text(const ClipCost& cost);

/// Those of all stages of the config, for a tokenizer of the size that the config names: the report
/// of `--dry-run`.
std::string cost_report(const ExperimentConfig& config, int64_t ranks = 1);

}  // namespace dalle
