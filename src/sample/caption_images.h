#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "model/dalle_model.h"

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

}  // namespace dalle
