#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "model/dalle_model.h"
#include "sample/caption_images.h"
#include "sample/generate_options.h"
#include "sample/sampling_config.h"

namespace dalle {

/// generate_codes() with the model's own decode_step(), on any device: one position of several
/// images at a time, whatever their captions. DecodeBatch gives the same codes within rounding. A
/// GPU repeats each step, tokens included, as a CUDA graph; the host only polls.
/// @param images        generated at once
/// @param add_progress  called at least every 32 steps with the number of codes that they add; it
///                      may throw to stop
/// @throws dalle::Error if logits are not finite
GenerateStatistics generate_stepwise(DalleModel& model, std::span<const CaptionImages> requests,
                                     const SamplingConfig& sampling, const GenerateOptions& options,
                                     int64_t images, const CodesDone& codes_done,
                                     const std::function<void(int64_t)>& add_progress);

}  // namespace dalle
