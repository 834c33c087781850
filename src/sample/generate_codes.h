#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include <ATen/core/Tensor.h>

#include "model/dalle_model.h"
#include "sample/decode_config.h"
#include "sample/sampling_config.h"

namespace dalle {

/// Marks a code that is not forced.
inline constexpr int64_t kFreeCode = -1;

/// Which images of a caption to generate.
struct CaptionImages {
  at::Tensor caption;       ///< [text_length - 1] int64 on the CPU, padded with kPadToken
  int64_t first_image = 0;  ///< index of the first image
  int64_t count = 1;
  /// [image_length] int64 on the CPU: codes that are given, and kFreeCode where one is sampled.
  /// Undefined: all are sampled.
  at::Tensor forced = {};
  double variation = 0;  ///< fraction of the forced codes that is resampled anyway: forced_codes()
};

/// Fails with DALLE_CHECK unless these images can be generated with the model.
void check_caption_images(const DalleModel& model, const CaptionImages& images);

struct GenerateOptions {
  uint64_t seed = 1;
  int64_t batch_size = 0;    ///< images at once; 0: default_batch_size()
  DecodeConfig decode = {};  ///< CPU only
};

/// 32, or fewer if the keys and values of that many images and captions would take more than 1 GiB.
/// Guidance doubles them.
int64_t default_batch_size(const TransformerConfig& config, const SequenceLayout& layout,
                           const SamplingConfig& sampling);

/// Statistics of a generation, for benchmarks.
struct GenerateStatistics {
  int64_t passes = 0;        ///< through the model
  int64_t rows = 0;          ///< summed over all passes
  int64_t codes = 0;         ///< of the images, forced ones included
  int64_t weight_bytes = 0;  ///< read by one pass; 0 if unknown
};

/// Called with each image as soon as its codes are complete, in no particular order.
/// @param request  index of its CaptionImages
/// @param codes    [grid_height, grid_width] int64 on the CPU
using CodesDone = std::function<void(size_t request, int64_t image, const at::Tensor& codes)>;

/// Called after each pass with the number of image tokens known so far and in total. It may throw
/// to stop.
using GenerateProgress = std::function<void(int64_t done, int64_t total)>;

/// Samples the image tokens of captions. Memory does not depend on the number of images.
///
/// The token of image i at a position is sampled with one uniform number that depends only on
/// (seed, caption, i, position), so forcing codes that an image would have had anyway does not
/// change the image. On the CPU, image i of a seed is the same, bit for bit, whatever else is
/// generated, and for any batch size, decode mode and number of threads: see CpuDecoder. On other
/// devices, the rounding of matrix products depends on the batch size, so image i may differ in
/// some codes if the count or the batch size differs.
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
