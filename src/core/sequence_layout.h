#pragma once

#include <cstdint>

namespace dalle {

/// Fills the slots of a caption tensor after the last token. It is not a token of the vocabulary:
/// the model replaces it by a learned embedding of the position.
inline constexpr int64_t kPadToken = -1;

/// The positions of a DALL-E sequence: text first, then the image grid in raster order.
///
/// There is one position for each predicted token: 256 + 1024 = 1280 at the paper's size. The input
/// of text slot 0 is start-of-text, and that of slot p is token p - 1 of the caption, so a caption
/// has at most text_length - 1 tokens. The input of image slot 0 is start-of-image, and that of
/// slot s is image token s - 1. Each slot predicts its own token and has its own position
/// embedding.
///
/// This header is in core because the data pipeline, the model and the sampler all need it.
/// Source: Ramesh et al. 2021, figure 10
struct SequenceLayout {
  int64_t text_length = 256;  ///< text slots, including start-of-text and padding
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
