#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

struct MuonOptions {
  double momentum = 0.95;
  double weight_decay = 0.0;
};

/// Approximates U V^T of a matrix U S V^T by five steps of a Newton-Schulz iteration, whose
/// polynomial was chosen for speed rather than convergence: singular values above a hundredth of
/// the norm end up in about [0.68, 1.13].
///
/// Large matrices that are at least twice as wide as they are high iterate on X X^T, which takes
/// fewer operations and differs by rounding (by less than 1e-3 of the largest entry).
///
/// @param matrix  [rows, columns] float32
/// @return        [rows, columns] float32; zeros for a matrix of zeros
/// Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"
at::Tensor orthogonalize(const at::Tensor& matrix);

/// One step of Muon. The Nesterov momentum of the gradient is orthogonalized, so that all
/// directions are learned at the same pace; AdamW's steps follow the few strongest ones.
///
/// The step is scaled by 0.2 sqrt(max(rows, columns)), so that its root mean square is that of
/// AdamW's step, and learning rate and weight decay mean the same for both.
///
/// @param weights   [rows, ...] float32, updated in place; the dimensions after the first count as
///                  columns
/// @param momentum  in the shape of the weights, updated in place
/// Source: Jordan et al. 2024; Liu et al. 2025, "Muon is scalable for LLM training", section 2.2
void muon_step(const at::Tensor& weights, const at::Tensor& gradient, const at::Tensor& momentum,
               double learning_rate, const MuonOptions& options);

}  // namespace dalle
