#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "nn/activation.h"
#include "nn/attention_kind.h"

namespace dalle {

enum class TransformerInit { kSparseTransformer, kNormal002 };

constexpr auto enum_names(TransformerInit) {
  return names_in_order<TransformerInit>("sparse_transformer", "normal_0.02");
}

/// The architecture of the transformer over text and image tokens. The vocabularies and the grid
/// are not keys because they come from the tokenizer and the dVAE.
///
/// Source: Ramesh et al. 2021, section 2.2 and appendix B.1
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

  bool uses_conv() const {
    return last_attention == AttentionKind::kConv ||
           std::ranges::find(attention, AttentionKind::kConv) != attention.end();
  }

  bool operator==(const TransformerConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(width % heads == 0, "heads", {"width"},
                   "found {}, expected a divisor of {}, which is {}", heads, checks.path("width"),
                   width);
    checks.require(!attention.empty(), "attention", {},
                   "found an empty list, expected at least one mask");
    checks.require(conv_kernel % 2 == 1, "conv_kernel", {}, "found {}, expected an odd number",
                   conv_kernel);
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("depth", self.depth,
          {.help = "number of layers", .min = 1, .max = 4096, .paper = "64 (B.1)"});
    visit("heads", self.heads,
          {.help = "attention heads per layer; must divide width", .min = 1, .paper = "62 (B.1)"});
    visit("width", self.width,
          {.help = "width of the residual stream",
           .min = 1,
           .max = 131072,
           .paper = "3968, heads of 64 (B.1)"});
    visit("text_length", self.text_length,
          {.help = "number of text positions, including start-of-text",
           .min = 2,
           .max = 4096,
           .paper = "256 (section 2.2)"});
    visit("attention", self.attention,
          {.help =
               "attention masks of the layers, repeated over the depth: row, column, conv or dense",
           .paper = "[row, column, row, row] (B.1)"});
    visit("last_attention", self.last_attention,
          {.help = "attention mask of the last layer", .paper = "conv (B.1)"});
    visit("conv_kernel", self.conv_kernel,
          {.help = "side of the convolutional mask's window; odd",
           .min = 1,
           .paper = "11 (figure 11)"});
    visit("activation", self.activation,
          {.help = "activation of the MLP: gelu or quick_gelu", .paper = "not stated"});
    visit("init", self.init,
          {.help = "sparse_transformer (Child et al. 2019) or normal_0.02", .paper = "not stated"});
    visit("dropout", self.dropout,
          {.help = "dropout rate at the end of each residual branch",
           .min = 0,
           .max = 0.9,
           .paper = "not stated; 0"});
    visit("text_loss_weight", self.text_loss_weight,
          {.help = "weight w of the text loss; the image loss has weight 1 - w",
           .min = 0,
           .max = 1,
           .paper = "0.125 (section 2.2)"});
    visit("text_loss_includes_padding", self.text_loss_includes_padding,
          {.help = "also predict padding", .paper = "not stated; false"});
    visit("recompute", self.recompute,
          {.help = "activation checkpointing: save only each layer's input and recompute the rest "
                   "in the backward pass; less memory, about a third more time",
           .paper = "true (section 2.4)"});
  }
};

}  // namespace dalle
