#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "dalle/core/sequence_layout.h"
#include "dalle/model/transformer_config.h"
#include "dalle/nn/linear.h"
#include "dalle/nn/precision.h"
#include "dalle/nn/transformer_block.h"

namespace dalle {

/// How many tokens of each kind are predicted: what the two cross-entropies are divided by.
struct LossCounts {
  int64_t text_tokens = 0;
  int64_t image_tokens = 0;
};

/// The loss of a micro-batch; scalars, sums over it divided by the counts of its global batch.
struct DalleLoss {
  at::Tensor total;  ///< [] text_loss_weight * text + (1 - text_loss_weight) * image
  at::Tensor text;   ///< [] nats a text token; 0 where there is none
  at::Tensor image;  ///< [] nats an image token
};

/// The states of all layers while pictures are drawn token by token.
struct DecodingState {
  std::vector<KeyValueCache> layers;
  int64_t next_position = 0;  ///< position in the sequence of the state that comes next
};

/// The transformer that models a caption's tokens followed by a picture's codes.
///
/// The sequence is that of SequenceLayout. Pads have a learned vector for each position, without
/// position embedding, and are attended to like tokens. Text states read the text head and image
/// states the image head; both heads are apart from the embeddings, have no bias and give float32
/// logits under every precision. Weights are zero until initialize() or until a checkpoint is
/// loaded. Source: Ramesh et al. 2021, section 2.2, appendix B and figures 10 and 11
class DalleModelImpl : public torch::nn::Module {
 public:
  /// @throws dalle::Error if heads does not divide the width or the attention list is empty
  DalleModelImpl(const TransformerConfig& config, const SequenceLayout& layout,
                 int64_t text_vocab_size, int64_t image_vocab_size,
                 Precision precision = Precision::kFloat32);

  void initialize(at::Generator generator);

  /// The tokens that a batch's captions and pictures ask to predict.
  /// @param captions  [B, text_length - 1] int64, kPadToken behind the last token
  LossCounts count_targets(const at::Tensor& captions) const;

  /// @param captions      [B, text_length - 1] int64 in [0, text vocabulary), kPadToken behind the
  /// last token
  /// @param codes         [B, image_length] int64 in [0, image vocabulary), in raster order
  /// @param counts        of the global batch
  /// @param dropout_seed  decides the dropout masks; read in training with dropout only
  /// @throws dalle::Error if a shape is wrong
  DalleLoss loss(const at::Tensor& captions, const at::Tensor& codes, const LossCounts& counts,
                 uint64_t dropout_seed = 0);

  /// The states behind the last layer's norm: what the heads read.
  /// @return  [B, length, width] float32
  at::Tensor states(const at::Tensor& captions, const at::Tensor& codes, uint64_t dropout_seed = 0);

  /// Starts drawing: reads the captions.
  /// @return  a state from which next_image_logits() draws the first image token
  DecodingState read_captions(const at::Tensor& captions);

  /// The logits of the next image token.
  /// @param previous  [B] int64, the image token drawn last; ignored for the first one
  /// @return          [B, image vocabulary] float32
  at::Tensor next_image_logits(DecodingState& state, const at::Tensor& previous);

  const SequenceLayout& layout() const { return layout_; }
  int64_t image_vocab_size() const { return image_vocab_size_; }

 private:
  at::Tensor embed_text(const at::Tensor& captions) const;
  at::Tensor embed_image(const at::Tensor& codes) const;
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
  std::vector<TransformerBlock> blocks_;
  LayerNorm norm_ = nullptr;
  Linear text_head_ = nullptr;
  Linear image_head_ = nullptr;
};
TORCH_MODULE(DalleModel);

}  // namespace dalle
