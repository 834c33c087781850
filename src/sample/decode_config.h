#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/fields.h"

namespace dalle {

/// Whether image tokens are sampled one after the other, or guessed ahead and verified. Both give
/// the same tokens.
enum class DecodeMode { kSequential, kParallel, kAuto };

constexpr auto enum_names(DecodeMode) {
  return std::array{std::pair{DecodeMode::kSequential, std::string_view("sequential")},
                    std::pair{DecodeMode::kParallel, std::string_view("parallel")},
                    std::pair{DecodeMode::kAuto, std::string_view("auto")}};
}

/// How image tokens are computed. Affects only time and memory, not the images.
struct DecodeConfig {
  DecodeMode decode = DecodeMode::kAuto;
  int64_t window = 16;

  bool operator==(const DecodeConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("decode", self.decode,
          {.help = "how image tokens are computed on the CPU; the images are the same. sequential: "
                   "one position of an image after the other; parallel: guess `window` positions "
                   "ahead and keep what proves right; auto: as far ahead as it has paid off",
           .may_change = true});
    visit("window", self.window,
          {.help = "positions of an image that are computed together at most",
           .min = 1,
           .max = 1024,
           .may_change = true});
  }
};

}  // namespace dalle
