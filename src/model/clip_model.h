#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "model/clip_config.h"
#include "nn/linear.h"
#include "nn/transformer_block.h"
#include "tensor/precision.h"

namespace dalle {

/// The contrastive model that compares images with captions: a vision transformer and a causal text
/// transformer, whose embeddings have unit length, so that their dot product is the similarity.
///
/// The image transformer reads a class token and the patches in raster order, all of which attend
/// to one another; the class token's last state is projected. The text transformer reads
/// start-of-text (token V), the caption and end-of-text (token V + 1); the last state of
/// end-of-text is projected. Padding comes after it, so it is not attended to. Weights are zero
/// until initialize() or until a checkpoint is loaded.
///
/// Source: Radford et al. 2021, section 2.4, and the released code where the paper is silent
class ClipModelImpl : public torch::nn::Module {
 public:
  ClipModelImpl(const ClipConfig& config, int64_t image_size, int64_t text_vocab_size,
                Precision precision = Precision::kFloat32);

  /// Initializes as the released code does, except that the blocks of the image transformer are
  /// initialized like those of the text transformer, not with PyTorch's defaults.
  void initialize(at::Generator generator);

  /// @param images  [B, 3, S, S] floating point in [0, 1]
  /// @return        [B, E], of unit length
  at::Tensor embed_images(const at::Tensor& images);

  /// @param captions  [B, max_caption_tokens] int64 in [0, V), kPadToken after the last token
  /// @return          [B, E], of unit length
  at::Tensor embed_captions(const at::Tensor& captions);

  /// What similarities are multiplied by: the inverse of the learned temperature.
  /// @return  []
  at::Tensor logit_scale() const { return log_scale_.exp(); }

  /// Limits the scale to 100. Call this after each update: a bound in logit_scale() would have no
  /// gradient above 100, so the scale could never come back down.
  void limit_logit_scale();

  const ClipConfig& config() const { return config_; }

 private:
  std::vector<TransformerBlock> make_blocks(const char* name, int64_t depth,
                                            const TransformerBlockOptions& options);
  at::Tensor run_blocks(std::vector<TransformerBlock>& blocks, at::Tensor x) const;

  ClipConfig config_;
  int64_t image_size_;
  int64_t text_vocab_size_;
  Linear patch_embedding_ = nullptr;
  at::Tensor class_embedding_;  // [image width]
  at::Tensor image_position_;   // [1 + patches, image width]
  LayerNorm image_pre_norm_ = nullptr;
  std::vector<TransformerBlock> image_blocks_;
  LayerNorm image_norm_ = nullptr;
  Linear image_projection_ = nullptr;
  at::Tensor token_embedding_;  // [V + 2, text width]
  at::Tensor text_position_;    // [text length, text width]
  std::vector<TransformerBlock> text_blocks_;
  LayerNorm text_norm_ = nullptr;
  Linear text_projection_ = nullptr;
  at::Tensor log_scale_;  // []
};
TORCH_MODULE(ClipModel);

/// Parameters of a ClipModel, and what its forward pass computes.
struct ClipModelCost {
  int64_t image_parameters = 0;
  int64_t image_block = 0;  ///< parameters of one layer, among image_parameters
  int64_t text_parameters = 0;
  int64_t text_block = 0;  ///< likewise
  double image_flops = 0;  ///< of one image: matrix products and unmasked attention pairs
  double text_flops = 0;   ///< of one caption, likewise

  int64_t parameters() const { return image_parameters + text_parameters + 1; }  // the scale
};

/// Computed from the shapes alone; no module is constructed.
ClipModelCost clip_model_cost(const ClipConfig& config, int64_t image_size,
                              int64_t text_vocab_size);

}  // namespace dalle
