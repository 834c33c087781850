#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/seeds.h"

namespace dalle {

/// How the true caption of an image ranks among others by a score. Equal scores are ordered at
/// random, and these are the expected values.
struct CaptionRank {
  double first = 0;       ///< probability that the true caption is first
  double reciprocal = 0;  ///< mean of 1 / rank
};

/// @param truth   score of the true caption; higher is better
/// @param others  scores of the other captions; if there are none, the true one is first
CaptionRank rank_caption(double truth, std::span<const double> others);

/// The words of a caption in a random order that reads differently.
/// @return  empty if there is none: a single word, or one word repeated
std::string shuffled_words(std::string_view caption, SeedStream& random);

}  // namespace dalle
