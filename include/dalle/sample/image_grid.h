#pragma once

#include <cstdint>
#include <span>

#include "dalle/data/picture.h"

namespace dalle {

/// Lays pictures of one size out in rows of `columns`, from the top left, two pixels of white
/// between and around them.
/// @throws dalle::Error if there is no picture, or the sizes differ
Picture image_grid(std::span<const Picture> pictures, int64_t columns);

}  // namespace dalle
