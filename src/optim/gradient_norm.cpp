#include "dalle/optim/gradient_norm.h"

#include <ATen/ops/linalg_vector_norm.h>

#include "dalle/core/error.h"

namespace dalle {

at::Tensor block_square_sums(const at::Tensor& flat) {
  DALLE_CHECK(flat.numel() % kNormBlock == 0);
  return at::linalg_vector_norm(flat.view({-1, kNormBlock}), 2, /*dim=*/1, /*keepdim=*/false,
                                at::kDouble)
      .square();
}

double norm_of_blocks(const at::Tensor& square_sums) {
  return square_sums.sum().sqrt().item<double>();
}

}  // namespace dalle
