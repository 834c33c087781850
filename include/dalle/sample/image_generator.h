#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "dalle/model/dalle_model.h"
#include "dalle/sample/sampling_config.h"

namespace dalle {

/// Images that are generated at once, however many are asked for: see generate_codes().
inline constexpr int64_t kRowsAtOnce = 12;

/// Which pictures of a caption are drawn.
struct GenerateOptions {
  uint64_t seed = 1;
  int64_t first_image = 0;  ///< number of the first picture
  int64_t count = 1;
};

/// Images are generated in groups of so many: whoever asks for the images of whole groups, one
/// group after the other, has nothing generated twice.
inline constexpr int64_t kImagesAtOnce = 12;

/// Called after each step with the image tokens drawn so far and in all.
using GenerateProgress = std::function<void(int64_t done, int64_t total)>;

/// Draws image tokens of a caption, with a cache of keys and values.
///
/// The token of image i at a position is drawn with one uniform number that depends on (seed,
/// caption, i, position) alone. Matrix products round differently for other numbers of rows, so
/// pictures are drawn in groups of a fixed size in which image i has a fixed place, others filling
/// up the first and the last group: image i of a seed is the same, bit for bit, whatever else is
/// drawn.
///
/// @param caption  [text_length - 1] int64, kPadToken behind the last token
/// @return         [count, grid_height, grid_width] int64 on the CPU
/// @throws dalle::Error if the model's logits are not finite
at::Tensor generate_codes(DalleModel model, const at::Tensor& caption,
                          const SamplingConfig& sampling, const GenerateOptions& options,
                          const GenerateProgress& progress = {});

}  // namespace dalle
