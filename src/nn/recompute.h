#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Activation checkpointing: computes `layer(x)` and saves only x for the backward pass, which
/// computes the layer again. Values and gradients are bit for bit those of a plain call as long as
/// the layer is a pure function of x and its parameters. Dropout qualifies, because its mask comes
/// from a seed.
///
/// @param layer  kept until the backward pass; its parameters get their gradients there
/// @param x      if it requires no gradient, this is a plain call
/// Source: Ramesh et al. 2021, section 2.4; Chen et al. 2016, "Training deep nets with sublinear
/// memory cost"
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& layer,
                     const at::Tensor& x);

}  // namespace dalle
