#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "sample/decode_config.h"

namespace dalle {

// How to generate images, and what a generation reports.

struct GenerateOptions {
  uint64_t seed = 1;
  int64_t batch_size = 0;    ///< images at once; 0: default_batch_size()
  DecodeConfig decode = {};  ///< CPU only
};

/// Called with each image as soon as its codes are complete, in no particular order.
/// @param request  index of its CaptionImages
/// @param codes    [grid_height, grid_width] int64 on the CPU
using CodesDone = std::function<void(size_t request, int64_t image, const at::Tensor& codes)>;

/// Called after each pass, on devices other than the CPU after at most 32 of them, with the number
/// of image tokens known so far and in total. It may throw to stop.
using GenerateProgress = std::function<void(int64_t done, int64_t total)>;

/// Statistics of a generation, for benchmarks.
struct GenerateStatistics {
  int64_t passes = 0;        ///< through the model
  int64_t rows = 0;          ///< summed over all passes
  int64_t codes = 0;         ///< of the images, forced ones included
  int64_t weight_bytes = 0;  ///< read by one pass; 0 if unknown
};

}  // namespace dalle
