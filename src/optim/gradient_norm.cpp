#include "optim/gradient_norm.h"

#include <ATen/ops/linalg_vector_norm.h>

#include "core/error.h"

namespace dalle {

at::Tensor block_square_sums(const at::Tensor& flat) {
  DALLE_CHECK(flat.numel() % kNormBlock == 0);
  const auto blocks = flat.view({-1, kNormBlock});
  const auto sums = at::empty({blocks.size(0)}, flat.options().dtype(at::kDouble));
  // In pieces, because a float64 reduction first copies its input to float64; in larger ones on a
  // GPU, where starting a kernel costs more. Each block has its own sum, so the bits are the same.
  const int64_t at_once = flat.is_cuda() ? 8 * kNormBlocksAtOnce : kNormBlocksAtOnce;
  const auto pieces = blocks.split(at_once), sums_of = sums.split(at_once);
  for (size_t i = 0; i < pieces.size(); ++i)
    sums_of[i].copy_(
        at::linalg_vector_norm(pieces[i], 2, /*dim=*/1, /*keepdim=*/false, at::kDouble).square());
  return sums;
}

double norm_of_blocks(const at::Tensor& square_sums) {
  return square_sums.sum().sqrt().item<double>();
}

}  // namespace dalle
