#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "dalle/core/fields.h"
#include "dalle/nn/activation.h"
#include "dalle/nn/attention_kind.h"

namespace dalle {

enum class TransformerInit { kSparseTransformer, kNormal002 };

constexpr auto enum_names(TransformerInit) {
  return std::array{
      std::pair{TransformerInit::kSparseTransformer, std::string_view("sparse_transformer")},
      std::pair{TransformerInit::kNormal002, std::string_view("normal_0.02")}};
}

/// The shape of the transformer over text and image tokens. The vocabularies and the grid are not
/// keys: they are the tokenizer's and the dVAE's. Source: Ramesh et al. 2021, section 2.2 and
/// appendix B.1
struct TransformerConfig {
  int64_t depth = 64;
  int64_t heads = 62;
  int64_t width = 3968;
  int64_t text_length = 256;
  std::vector<AttentionKind> attention = {AttentionKind::kRow, AttentionKind::kColumn,
                                          AttentionKind::kRow, AttentionKind::kRow};
  AttentionKind last_attention = AttentionKind::kConv;
  int64_t conv_kernel = 11;
  Activation activation = Activation::kGelu;
  TransformerInit init = TransformerInit::kSparseTransformer;
  double dropout = 0.0;
  double text_loss_weight = 0.125;
  bool text_loss_includes_padding = false;
  bool recompute = false;

  /// The mask of layer `layer` in [0, depth).
  AttentionKind attention_of_layer(int64_t layer) const {
    return layer == depth - 1 ? last_attention
                              : attention[static_cast<size_t>(layer) % attention.size()];
  }

  bool operator==(const TransformerConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("depth", self.depth, {.help = "number of layers", .min = 1, .paper = "64 (B.1)"});
    visit("heads", self.heads,
          {.help = "attention heads a layer; must divide width", .min = 1, .paper = "62 (B.1)"});
    visit("width", self.width,
          {.help = "width of the residual stream", .min = 1, .paper = "3968, heads of 64 (B.1)"});
    visit("text_length", self.text_length,
          {.help = "text slots, start-of-text included",
           .min = 2,
           .max = 4096,
           .paper = "256 (section 2.2)"});
    visit("attention", self.attention,
          {.help = "masks of the layers, repeated over the depth: row, column, conv or dense",
           .paper = "[row, column, row, row] (B.1)"});
    visit("last_attention", self.last_attention,
          {.help = "mask of the last layer", .paper = "conv (B.1)"});
    visit("conv_kernel", self.conv_kernel,
          {.help = "side of the convolutional mask's window; odd",
           .min = 1,
           .paper = "11 (figure 11)"});
    visit("activation", self.activation,
          {.help = "gelu or quick_gelu, of the MLP", .paper = "not stated"});
    visit("init", self.init,
          {.help = "sparse_transformer (Child et al. 2019) or normal_0.02", .paper = "not stated"});
    visit("dropout", self.dropout,
          {.help = "dropout at the end of each residual branch",
           .min = 0,
           .max = 0.9,
           .paper = "not stated; 0"});
    visit("text_loss_weight", self.text_loss_weight,
          {.help = "share of the text loss; the image loss has the rest",
           .min = 0,
           .max = 1,
           .paper = "0.125 (section 2.2)"});
    visit("text_loss_includes_padding", self.text_loss_includes_padding,
          {.help = "predict pads too", .paper = "not stated; false"});
    visit("recompute", self.recompute,
          {.help = "keep only the layers' inputs for the backward pass and compute the rest again: "
                   "less memory, a third more time",
           .paper = "true (section 2.4)"});
  }
};

}  // namespace dalle
