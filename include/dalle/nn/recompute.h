#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Computes `layer(x)` and keeps only x for the backward pass, which computes the layer again:
/// activation checkpointing. Values and gradients are bit for bit those of a plain call, as long as
/// the layer is a pure function of x and its parameters (dropout here is: its mask comes from a
/// seed).
///
/// @param layer  kept until the backward pass; its parameters get their gradients there
/// @param x      where it needs no gradient there is nothing to hang the second computation on: the
///               call is then a plain one
/// Source: Ramesh et al. 2021, section 2.4; Chen et al. 2016, "Training deep nets with sublinear
/// memory cost"
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& layer,
                     const at::Tensor& x);

}  // namespace dalle
