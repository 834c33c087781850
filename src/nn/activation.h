#pragma once

#include <ATen/core/Tensor.h>

#include "core/fields.h"

namespace dalle {

/// The MLP's activation function: exact GELU, or x * sigmoid(1.702 x) from Child et al. 2019.
enum class Activation { kGelu, kQuickGelu };

constexpr auto enum_names(Activation) {
  return names_in_order<Activation>("gelu", "quick_gelu");
}

at::Tensor activate(Activation activation, const at::Tensor& x);

}  // namespace dalle
