#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/sequence_layout.h"
#include "model/transformer_config.h"
#include "nn/attention_pattern.h"
#include "nn/linear.h"
#include "nn/loss_counts.h"
#include "nn/transformer_block.h"
#include "tensor/precision.h"

namespace dalle {

/// The loss of a micro-batch, as scalars: sums over it, divided by the counts of its global batch.
struct DalleLoss {
  at::Tensor total;  ///< [] text_loss_weight * text + (1 - text_loss_weight) * image
  at::Tensor text;   ///< [] nats per text token; 0 if there are none
  at::Tensor image;  ///< [] nats per image token
};

/// The state of decoding, on the model's device: the KV caches of all layers.
struct DecodeState {
  std::vector<KvCache> layers;
  at::Tensor position;  ///< [1] int64, of the next image token, from 0
};

/// The transformer that models a caption's tokens followed by an image's codes.
///
/// The sequence is laid out by SequenceLayout. Padding has a learned vector per position instead of
/// a position embedding and is attended to like tokens. The text head predicts from text states and
/// the image head from image states. The heads share no weights with the embeddings, have no bias,
/// and compute float32 logits under every precision. Weights are zero until initialize() or until a
/// checkpoint is loaded.
///
/// Source: Ramesh et al. 2021, section 2.2, appendix B and figures 10 and 11
class DalleModelImpl : public torch::nn::Module {
 public:
  DalleModelImpl(const TransformerConfig& config, const SequenceLayout& layout,
                 int64_t text_vocab_size, int64_t image_vocab_size,
                 Precision precision = Precision::kFloat32);

  void initialize(at::Generator generator);

  /// Counts the samples of a batch and their tokens that are predicted.
  /// @param captions  [B, text_length - 1] int64, kPadToken after the last token
  LossCounts count_targets(const at::Tensor& captions) const;

  /// @param captions      [B, text_length - 1] int64 in [0, text vocabulary), padded with kPadToken
  ///                      (on the model's device or on the host, which avoids waiting for a GPU)
  /// @param codes         [B, image_length] int64 in [0, image vocabulary), in raster order
  /// @param counts        of the global batch
  /// @param dropout_seed  determines the dropout masks; used only in training with dropout
  DalleLoss loss(const at::Tensor& captions, const at::Tensor& codes, const LossCounts& counts,
                 uint64_t dropout_seed = 0);

  /// The inputs of the heads: the states after the final layer norm.
  /// @return  [B, length, width] float32
  at::Tensor hidden_states(const at::Tensor& captions, const at::Tensor& codes,
                           uint64_t dropout_seed = 0);

  /// Starts decoding: computes the text states of the captions.
  /// @param captions  as for loss(), on the model's device
  /// @return          the state from which decode_step() predicts the first image token
  DecodeState prefill(const at::Tensor& captions);

  /// The logits of the next image token; must not be called after the last one. From the second
  /// step of a model on, a step does the same work for all positions, on the same tensors of the
  /// state, and never waits for the device, so a CUDA graph can record it.
  /// @param previous  [B] int64 in [0, image vocabulary), the previous image token; ignored in the
  ///                  first step
  /// @return          [B, image vocabulary] float32
  at::Tensor decode_step(DecodeState& state, const at::Tensor& previous);

  const TransformerConfig& config() const { return config_; }
  const SequenceLayout& layout() const { return layout_; }
  Precision precision() const { return precision_; }
  int64_t image_vocab_size() const { return image_vocab_size_; }

 private:
  at::Tensor embed_text(const at::Tensor& captions) const;
  at::Tensor embed_image(const at::Tensor& codes) const;
  at::Tensor image_positions() const;
  at::Tensor text_targets(const at::Tensor& captions) const;

  TransformerConfig config_;
  SequenceLayout layout_;
  int64_t text_vocab_size_;
  int64_t image_vocab_size_;
  Precision precision_;
  at::Tensor text_embedding_;   // [text vocabulary, width]
  at::Tensor pad_embedding_;    // [text_length, width]
  at::Tensor start_of_text_;    // [width]
  at::Tensor text_position_;    // [text_length, width]
  at::Tensor image_embedding_;  // [image vocabulary, width]
  at::Tensor start_of_image_;   // [width]
  at::Tensor row_position_;     // [grid_height, width]
  at::Tensor column_position_;  // [grid_width, width]
  std::map<AttentionKind, std::shared_ptr<AttentionPattern>> patterns_;
  std::vector<TransformerBlock> blocks_;
  LayerNorm norm_ = nullptr;
  Linear text_head_ = nullptr;
  Linear image_head_ = nullptr;
};
TORCH_MODULE(DalleModel);

/// Parameters of a DalleModel, and what its forward pass computes.
struct DalleModelCost {
  int64_t embeddings = 0;  ///< parameters: of tokens, pads, positions, rows, columns, start vectors
  int64_t block = 0;       ///< parameters of one layer
  int64_t norm = 0;        ///< parameters of the last normalization
  int64_t text_head = 0;   ///< parameters
  int64_t image_head = 0;  ///< parameters
  int64_t attention_pairs = 0;  ///< unmasked (query, key) of one head, summed over the layers
  double forward_flops = 0;     ///< of one sequence: matrix products and unmasked attention pairs
};

/// Computed from the shapes alone; no module is constructed, so this is fast for any size.
DalleModelCost dalle_model_cost(const TransformerConfig& config, const SequenceLayout& layout,
                                int64_t text_vocab_size, int64_t image_vocab_size);

}  // namespace dalle
