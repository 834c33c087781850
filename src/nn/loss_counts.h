#pragma once

#include <cstdint>

namespace dalle {

/// What the losses of one step are divided by, counted over its global batch, so that the split
/// into micro-batches and ranks does not change them.
struct LossCounts {
  int64_t samples = 0;
  int64_t text_tokens = 0;   ///< caption tokens that are predicted; 0 where the stage has no text
  int64_t image_tokens = 0;  ///< image tokens that are predicted; 0 where there are none
};

}  // namespace dalle
