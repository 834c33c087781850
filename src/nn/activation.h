#pragma once

#include <array>
#include <string_view>
#include <utility>

#include <ATen/core/Tensor.h>

namespace dalle {

/// The MLP's activation function: exact GELU, or x * sigmoid(1.702 x) from Child et al. 2019.
enum class Activation { kGelu, kQuickGelu };

constexpr auto enum_names(Activation) {
  return std::array{std::pair{Activation::kGelu, std::string_view("gelu")},
                    std::pair{Activation::kQuickGelu, std::string_view("quick_gelu")}};
}

at::Tensor activate(Activation activation, const at::Tensor& x);

}  // namespace dalle
