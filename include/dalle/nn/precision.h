#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace dalle {

/// The type that matrix products and convolutions are computed in. Weights, their gradients, the
/// optimizer, softmax, normalisation statistics and losses are float32 under every policy.
enum class Precision { kFloat32, kBfloat16 };

constexpr auto enum_names(Precision) {
  return std::array{std::pair{Precision::kFloat32, std::string_view("float32")},
                    std::pair{Precision::kBfloat16, std::string_view("bfloat16")}};
}

}  // namespace dalle
