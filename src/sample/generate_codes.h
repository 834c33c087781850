#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "model/dalle_model.h"
#include "sample/caption_images.h"
#include "sample/generate_options.h"
#include "sample/sampling_config.h"

namespace dalle {

/// 32, or fewer if the keys and values of that many images and captions would take more than 1 GiB.
/// Guidance doubles them.
int64_t default_batch_size(const TransformerConfig& config, const SequenceLayout& layout,
                           const SamplingConfig& sampling);

/// Samples the image tokens of captions. Memory does not depend on the number of images.
///
/// The token of image i at a position is sampled with one uniform number that depends only on
/// (seed, caption, i, position), so forcing codes that an image would have had anyway does not
/// change the image. On the CPU, image i of a seed is the same, bit for bit, whatever else is
/// generated, and for any batch size, decode mode and number of threads: see CpuDecoder. On other
/// devices, the rounding of matrix products depends on the batch size, so image i may differ in
/// some codes if the count, the other captions or the batch size differ.
///
/// @throws dalle::Error if the model's logits are not finite
GenerateStatistics generate_codes(DalleModel model, std::span<const CaptionImages> requests,
                                  const SamplingConfig& sampling, const GenerateOptions& options,
                                  const CodesDone& codes_done,
                                  const GenerateProgress& progress = {});

/// The codes of one caption's images.
/// @return  [count, grid_height, grid_width] int64 on the CPU
at::Tensor generate_codes(DalleModel model, const CaptionImages& images,
                          const SamplingConfig& sampling, const GenerateOptions& options,
                          const GenerateProgress& progress = {});

}  // namespace dalle
