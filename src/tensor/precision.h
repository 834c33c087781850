#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace dalle {

/// The type in which matrix products and convolutions are computed. Weights, gradients, optimizer
/// state, softmax, normalization statistics and losses are always float32.
enum class Precision { kFloat32, kBfloat16 };

constexpr auto enum_names(Precision) {
  return std::array{std::pair{Precision::kFloat32, std::string_view("float32")},
                    std::pair{Precision::kBfloat16, std::string_view("bfloat16")}};
}

}  // namespace dalle
