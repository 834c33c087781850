#pragma once

#include <cstdint>

namespace dalle {

/// What random numbers are used for. Each purpose has its own stream, and values are never reused,
/// so adding a purpose does not change the other streams.
enum class SeedPurpose : uint64_t {
  kModelInit = 1,         ///< initial weights
  kEpochPermutation = 2,  ///< order of the samples of an epoch
  kReplacement = 3,       ///< which sample replaces an invalid one
  kCaptionChoice = 4,     ///< which of an image's captions is used
  kCrop = 5,              ///< crop, scale and flip of an image
  kGumbelNoise = 6,       ///< noise of the relaxed codes
  kBpeDropout = 7,        ///< merges skipped in the segmentation of a caption
  kImageToken = 8,        ///< uniform number that selects an image token
  kShapesScene = 9,       ///< scenes and captions of the procedural data set
  kSplit = 10,            ///< which samples are held out for validation
  kDropout = 11,          ///< dropout masks of a micro-batch
  kCaptionDropout = 12,   ///< which captions are replaced by padding in training
  kCaptionRanking = 13,   ///< the captions that an evaluation compares with an image's own
  kVariation = 14,        ///< which forced codes of an image are sampled after all
  kCodeRevival = 15,      ///< which outputs of the encoder replace little used codes
  kRandomFeatures = 20,   ///< weights of the random network that compares images
};

/// Mixes 64 bits so that every output bit depends on every input bit (the finalizer of SplitMix64).
constexpr uint64_t mix_bits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Returns 64 random bits, a pure function of the experiment's seed, the purpose and up to three
/// counters (an epoch or step, a global sample position, an index within the sample).
///
/// Counters never include the rank, the worker or the position in a micro-batch, so the results of
/// a run do not depend on how its work is divided.
constexpr uint64_t derive_seed(uint64_t seed, SeedPurpose purpose, uint64_t a = 0, uint64_t b = 0,
                               uint64_t c = 0) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
  uint64_t state = mix_bits(seed + kGolden);
  state = mix_bits(state ^ (static_cast<uint64_t>(purpose) + kGolden));
  state = mix_bits(state ^ (a + 2 * kGolden));
  state = mix_bits(state ^ (b + 3 * kGolden));
  return mix_bits(state ^ (c + 4 * kGolden));
}

/// Uniform in [0, 1), with the 53 bits of a double's mantissa.
constexpr double to_unit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

/// A small sequential generator (SplitMix64), to be seeded by derive_seed(). Satisfies
/// std::uniform_random_bit_generator.
class SeedStream {
 public:
  using result_type = uint64_t;

  explicit constexpr SeedStream(uint64_t seed) : state_(seed) {}

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }
  constexpr uint64_t operator()() { return mix_bits(state_ += 0x9e3779b97f4a7c15ULL); }

  constexpr double uniform() { return to_unit((*this)()); }

  /// Uniform in [0, bound) for bound > 0, without modulo bias.
  constexpr uint64_t below(uint64_t bound) {
    const uint64_t limit = (~uint64_t{0} / bound) * bound;
    uint64_t bits = (*this)();
    while (bits >= limit) bits = (*this)();
    return bits % bound;
  }

 private:
  uint64_t state_;
};

}  // namespace dalle
