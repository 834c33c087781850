#pragma once

#include <cstdint>

namespace dalle {

/// Fills the slots of a caption tensor behind the caption's last token. The model puts its own
/// learned vector of that position there; it is no id of the vocabulary.
inline constexpr int64_t kPadToken = -1;

/// Where each state of a DALL-E sequence sits: text first, then the image grid in raster order.
///
/// There is one state for each token that is predicted, 256 + 1024 = 1280 at the paper's size. Text
/// slot 0 holds start-of-text and slot p the caption's token p - 1, so a caption has at most
/// text_length - 1 tokens; image slot 0 holds start-of-image and slot s the image token s - 1. Each
/// state predicts the token of its own slot, and its position embedding is that of its own slot.
///
/// Torch-free on purpose: the data pipeline, the model and the sampler all need these numbers, and
/// none of them should own them.
/// Source: Ramesh et al. 2021, figure 10
struct SequenceLayout {
  int64_t text_length = 256;  ///< text slots, start-of-text and padding included
  int64_t grid_height = 32;   ///< rows of the code grid
  int64_t grid_width = 32;    ///< columns of the code grid

  int64_t max_caption_tokens() const { return text_length - 1; }
  int64_t image_length() const { return grid_height * grid_width; }
  int64_t length() const { return text_length + image_length(); }
  bool is_image(int64_t position) const { return position >= text_length; }
  int64_t row(int64_t position) const { return (position - text_length) / grid_width; }
  int64_t column(int64_t position) const { return (position - text_length) % grid_width; }

  bool operator==(const SequenceLayout&) const = default;
};

}  // namespace dalle
