#pragma once

#include <cstdint>

#include "core/fields.h"

namespace dalle {

/// Whether image tokens are sampled one after the other, or guessed ahead and verified. All modes
/// give the same tokens.
enum class DecodeMode { kSequential, kParallel, kAuto };

constexpr auto enum_names(DecodeMode) {
  return names_in_order<DecodeMode>("sequential", "parallel", "auto");
}

/// How image tokens are computed. Affects only speed and memory, not the images.
struct DecodeConfig {
  DecodeMode decode = DecodeMode::kAuto;
  int64_t window = 16;
  /// Bytes of weights that a processor's caches hold. kAuto decodes smaller models sequentially: a
  /// pass of several rows saves only the reading of weights from memory. Not a key.
  int64_t cached_bytes = int64_t{16} << 20;

  bool operator==(const DecodeConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("decode", self.decode,
          {.help =
               "how image tokens are computed on the CPU; does not change the images. sequential: "
               "one token of an image at a time; parallel: guess ahead, compute up to "
               "`window` tokens in one pass and keep the correct ones; auto: parallel "
               "where the weights exceed the processor's caches, with the window that "
               "measurements show to be fastest; else sequential",
           .may_change = true});
    visit("window", self.window,
          {.help = "maximum number of tokens of an image to compute in one pass",
           .min = 1,
           .max = 1024,
           .may_change = true});
  }
};

}  // namespace dalle
