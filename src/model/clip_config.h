#pragma once

#include <cstdint>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "nn/activation.h"

namespace dalle {

/// The architecture of the contrastive model. The vocabulary is not a key because it comes from the
/// tokenizer, and neither is the size of the images, which is `data.image_size`.
///
/// Source: Radford et al. 2021, "Learning transferable visual models from natural language
/// supervision", section 2.4 and tables 19 and 20; the defaults are ViT-B/32
struct ClipConfig {
  int64_t patch_size = 32;
  int64_t image_depth = 12;
  int64_t image_heads = 12;
  int64_t image_width = 768;
  int64_t text_depth = 12;
  int64_t text_heads = 8;
  int64_t text_width = 512;
  int64_t text_length = 77;
  int64_t embed_dim = 512;
  Activation activation = Activation::kQuickGelu;
  bool recompute = false;

  /// The tokens of a caption that the text transformer reads: start-of-text and end-of-text take
  /// the other two positions.
  int64_t max_caption_tokens() const { return text_length - 2; }

  /// The length of the sequence for an image of `image_size` x `image_size` pixels: a class token,
  /// then patches.
  int64_t image_length(int64_t image_size) const {
    const int64_t patches = image_size / patch_size;
    return 1 + patches * patches;
  }

  bool operator==(const ClipConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(image_width % image_heads == 0, "image_heads", {"image_width"},
                   "found {}, expected a divisor of {}, which is {}", image_heads,
                   checks.path("image_width"), image_width);
    checks.require(text_width % text_heads == 0, "text_heads", {"text_width"},
                   "found {}, expected a divisor of {}, which is {}", text_heads,
                   checks.path("text_width"), text_width);
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("patch_size", self.patch_size,
          {.help = "side of the square patches that an image is cut into, in pixels; must divide "
                   "data.image_size",
           .min = 1,
           .paper = "CLIP ViT-B/32: 32"});
    visit("image_depth", self.image_depth,
          {.help = "layers of the image transformer",
           .min = 1,
           .max = 4096,
           .paper = "CLIP ViT-B/32: 12"});
    visit("image_heads", self.image_heads,
          {.help = "attention heads per layer of the image transformer; must divide image_width",
           .min = 1,
           .paper = "CLIP ViT-B/32: 12"});
    visit("image_width", self.image_width,
          {.help = "width of the image transformer's residual stream",
           .min = 1,
           .max = 131072,
           .paper = "CLIP ViT-B/32: 768"});
    visit("text_depth", self.text_depth,
          {.help = "layers of the text transformer",
           .min = 1,
           .max = 4096,
           .paper = "CLIP ViT-B/32: 12"});
    visit("text_heads", self.text_heads,
          {.help = "attention heads per layer of the text transformer; must divide text_width",
           .min = 1,
           .paper = "CLIP ViT-B/32: 8"});
    visit("text_width", self.text_width,
          {.help = "width of the text transformer's residual stream",
           .min = 1,
           .max = 131072,
           .paper = "CLIP ViT-B/32: 512"});
    visit("text_length", self.text_length,
          {.help = "number of text positions, including start-of-text and end-of-text; further "
                   "tokens of a caption are ignored",
           .min = 3,
           .max = 4096,
           .paper = "CLIP: 77"});
    visit("embed_dim", self.embed_dim,
          {.help = "size of the embeddings of images and captions that are compared",
           .min = 1,
           .max = 65536,
           .paper = "CLIP ViT-B/32: 512"});
    visit("activation", self.activation,
          {.help = "activation of the MLPs: gelu or quick_gelu", .paper = "CLIP: quick_gelu"});
    visit("recompute", self.recompute,
          {.help = "activation checkpointing: save only each layer's input and recompute the rest "
                   "in the backward pass; less memory, about a third more time",
           .paper = "CLIP: true"});
  }
};

}  // namespace dalle
