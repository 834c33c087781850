#pragma once

#include "core/fields.h"

namespace dalle {

/// The type in which matrix products and convolutions are computed. Weights, gradients, optimizer
/// state, softmax, normalization statistics and losses are always float32.
enum class Precision { kFloat32, kBfloat16 };

constexpr auto enum_names(Precision) {
  return names_in_order<Precision>("float32", "bfloat16");
}

}  // namespace dalle
