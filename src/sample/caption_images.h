#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"
#include "model/dalle_model.h"

namespace dalle {

/// Marks a code that is not given, or not known yet.
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

/// The codes of an image that are given: the request's, except those that its variation frees. A
/// position is freed if a uniform number of (seed, image, position) is below the variation, so more
/// variation frees the same positions and more.
/// @return  [image_length], kFreeCode where a code is sampled
std::vector<int64_t> forced_codes(const CaptionImages& request, int64_t image_length, uint64_t seed,
                                  int64_t image);

/// The positions that are evaluated: up to the last free one, and at least one.
int64_t evaluated_positions(std::span<const int64_t> forced);

/// The codes of a preview. An unknown code is replaced by the one above it or, in the first row, by
/// the one before it, so known codes continue downward, and a preview with only the first code is
/// one color.
/// @param codes  [image_length], kFreeCode where unknown; the first one must be known
/// @return       [grid_height, grid_width] int64 on the CPU
at::Tensor preview_codes(std::vector<int64_t> codes, const SequenceLayout& layout);

}  // namespace dalle
