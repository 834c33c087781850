#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

struct MuonOptions {
  double momentum = 0.95;
  double weight_decay = 0.0;
};

/// U V^T of a matrix U S V^T, nearly: singular values above a hundredth of the norm end in about
/// [0.68, 1.13], by five steps of a Newton-Schulz iteration whose polynomial was chosen for speed
/// and not for convergence.
///
/// @param matrix  [rows, columns] float32
/// @return        [rows, columns] float32; zeros for a matrix of zeros
/// Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"
///
/// Large matrices that are twice as wide as high, or more, iterate on X X^T, which needs fewer
/// operations and differs by rounding (relative to the largest entry, below 1e-3).
at::Tensor orthogonalize(const at::Tensor& matrix);

/// One step of Muon: the Nesterov momentum of the gradient is orthogonalised, so that all of its
/// directions are learnt at one pace, where AdamW's step follows the few that are strongest.
///
/// The step is scaled by 0.2 sqrt(max(rows, columns)), which gives it the root mean square of
/// AdamW's: learning rates and weight decays mean the same for both.
///
/// @param weights   [rows, ...] float32, updated in place; what follows the rows is one dimension
/// @param momentum  of the weights' shape, updated in place
/// Source: Jordan et al. 2024; Liu et al. 2025, "Muon is scalable for LLM training", section 2.2
void muon_step(const at::Tensor& weights, const at::Tensor& gradient, const at::Tensor& momentum,
               double learning_rate, const MuonOptions& options);

}  // namespace dalle
