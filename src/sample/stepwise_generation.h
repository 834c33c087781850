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
/// images at a time, whatever their captions. DecodeBatch gives the same codes within rounding.
/// @param images        generated at once
/// @param add_progress  called after each step with the number of codes that it adds
GenerateStatistics generate_stepwise(DalleModel& model, std::span<const CaptionImages> requests,
                                     const SamplingConfig& sampling, const GenerateOptions& options,
                                     int64_t images, const CodesDone& codes_done,
                                     const std::function<void(int64_t)>& add_progress);

}  // namespace dalle
