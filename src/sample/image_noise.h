#pragma once

#include <cstdint>
#include <span>

#include "core/seeds.h"

namespace dalle {

/// The uniform numbers that select the tokens of a caption's images.
class ImageNoise {
 public:
  /// A hash of the caption's tokens is part of each number. Without it, captions that share a seed
  /// would share their noise, and image i of each would have its object in the same place.
  ImageNoise(uint64_t seed, std::span<const int64_t> caption) : seed_(seed) {
    for (const int64_t token : caption)
      caption_ = derive_seed(caption_, SeedPurpose::kImageToken, static_cast<uint64_t>(token));
  }

  /// In [0, 1).
  double at(int64_t image, int64_t position) const {
    return to_unit(derive_seed(seed_, SeedPurpose::kImageToken, static_cast<uint64_t>(image),
                               static_cast<uint64_t>(position), caption_));
  }

 private:
  uint64_t seed_;
  uint64_t caption_ = 0;
};

}  // namespace dalle
