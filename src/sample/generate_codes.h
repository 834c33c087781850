#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "model/dalle_model.h"
#include "sample/sampling_config.h"

namespace dalle {

/// Which images of a caption to generate.
struct GenerateOptions {
  uint64_t seed = 1;
  int64_t first_image = 0;  ///< index of the first image
  int64_t count = 1;
};

/// Images are generated in batches of this size, however few are requested: see generate_codes().
/// Callers that request whole batches in order generate no image twice.
inline constexpr int64_t kGenerationBatch = 12;

/// Called after each decode step with the number of image tokens sampled so far and in total.
using GenerateProgress = std::function<void(int64_t done, int64_t total)>;

/// Samples the image tokens of a caption, with a KV cache.
///
/// The token of image i at a position is sampled with one uniform number that depends only on
/// (seed, caption, i, position). Because matrix products of different batch sizes round
/// differently, the batch size is fixed and image i always has the same row; the first and the last
/// batch are filled up with other images. So image i of a seed is the same, bit for bit, whatever
/// else is generated.
///
/// @param caption  [text_length - 1] int64, padded with kPadToken
/// @return         [count, grid_height, grid_width] int64 on the CPU
/// @throws dalle::Error if the model's logits are not finite
at::Tensor generate_codes(DalleModel model, const at::Tensor& caption,
                          const SamplingConfig& sampling, const GenerateOptions& options,
                          const GenerateProgress& progress = {});

}  // namespace dalle
