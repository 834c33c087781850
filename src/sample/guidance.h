#pragma once

#include <cmath>
#include <cstdint>

#include "sample/sampling_config.h"

namespace dalle {

/// The positions of an image whose logits are guided: those in [first, end).
///
/// Guidance needs the logits of a second sequence, which has the same codes and a caption of
/// padding alone. Later positions attend to the keys and values of that sequence too, so it is
/// evaluated at all positions before `end`.
///
/// Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance"; for image tokens, Gafni et
/// al. 2022, "Make-A-Scene", section 3.4. Not in the paper.
struct GuidedPositions {
  int64_t first = 0;
  int64_t end = 0;  ///< 0: guidance is off

  bool contains(int64_t position) const { return position >= first && position < end; }
};

inline GuidedPositions guided_positions(const SamplingConfig& sampling, int64_t image_length) {
  if (sampling.guidance == 1) return {};
  const auto at = [&](double part) {
    // 0.07 * 100 is slightly more than 7.
    return static_cast<int64_t>(std::ceil(part * static_cast<double>(image_length) - 1e-9));
  };
  return {.first = at(sampling.guidance_from), .end = at(sampling.guidance_to)};
}

/// The number of sequences that an image needs, each with its own keys and values.
inline int64_t sequences_per_image(const SamplingConfig& sampling) {
  return sampling.guidance == 1 ? 1 : 2;
}

}  // namespace dalle
