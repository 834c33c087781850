#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sample/sampling_config.h"

namespace dalle {

/// What the error says if a logit is not finite.
inline constexpr const char* kNonFiniteLogits =
    "the model's logits are not finite; its weights may be corrupt";

/// Samples tokens from softmax(logits / temperature), restricted to the top_k most likely tokens
/// and then to the fewest whose total probability reaches top_p. Temperature 0 selects the most
/// likely token. Among equally likely tokens, the first ones count as more likely.
///
/// Sums are in float64. Nothing is sorted: top_k is a partial selection, and top_p takes the most
/// likely tokens from a heap. Allocates nothing after the first call.
class TokenSampler {
 public:
  explicit TokenSampler(const SamplingConfig& sampling) { use(sampling); }

  /// From now on, samples with other settings.
  void use(const SamplingConfig& sampling);

  /// @return  unnormalized probabilities, one per logit; valid until the next call
  /// @throws dalle::Error if a logit is not finite
  std::span<const double> weights(std::span<const float> logits);

  /// Logits guided away from those without a caption: unconditional + guidance * (conditional -
  /// unconditional), in float64, rounded to float32.
  /// @return  valid until the next call
  std::span<const float> guided(std::span<const float> conditional,
                                std::span<const float> unconditional);

  /// Samples a token by inverting the cumulative distribution.
  /// @param uniform  in [0, 1)
  /// @return         never a token of probability 0
  /// @throws dalle::Error if a logit is not finite
  int64_t sample(std::span<const float> logits, double uniform);

 private:
  void keep_top_k();
  void keep_top_p();

  SamplingConfig sampling_;
  std::vector<double> weights_;
  std::vector<float> guided_;
  std::vector<double> selected_;  // scratch of keep_top_k()
  std::vector<int32_t> order_;    // scratch of keep_top_p()
};

/// Inverts a cumulative distribution.
/// @param weights  not negative, not all 0; they need not sum to 1
/// @param uniform  in [0, 1)
/// @return         the index of a positive weight
int64_t invert_cumulative(std::span<const double> weights, double uniform);

}  // namespace dalle
