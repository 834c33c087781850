#include "nn/vector_quantization.h"

#include <algorithm>
#include <vector>

#include <torch/types.h>

#include "core/error.h"

namespace dalle {

at::Tensor straight_through(const at::Tensor& value, const at::Tensor& source) {
  return value.detach() + (source - source.detach());
}

at::Tensor distance_logits(const at::Tensor& vectors, const at::Tensor& codebook) {
  const at::Tensor rows = vectors.reshape({-1, codebook.size(0)});
  std::vector<int64_t> sizes = vectors.sizes().vec();
  sizes.back() = codebook.size(1);
  return at::addmm(-codebook.square().sum(0), rows, codebook, /*beta=*/1, /*alpha=*/2).view(sizes);
}

at::Tensor nearest_codes(const at::Tensor& vectors, const at::Tensor& codebook) {
  constexpr int64_t kPairs = 1 << 22;
  DALLE_CHECK(vectors.dim() == 2 && codebook.dim() == 2 && vectors.size(1) == codebook.size(0));
  const torch::NoGradGuard no_grad;
  const int64_t count = vectors.size(0);
  const int64_t rows = std::max<int64_t>(1, kPairs / codebook.size(1));
  const at::Tensor codes = torch::empty({count}, vectors.options().dtype(torch::kLong));
  for (int64_t begin = 0; begin < count; begin += rows) {
    const int64_t size = std::min(rows, count - begin);
    codes.narrow(0, begin, size)
        .copy_(distance_logits(vectors.narrow(0, begin, size), codebook).argmax(1));
  }
  return codes;
}

at::Tensor code_sums(const at::Tensor& vectors, const at::Tensor& codes, int64_t vocab_size) {
  const torch::NoGradGuard no_grad;
  const at::Tensor ones = torch::ones({vectors.size(0), 1}, vectors.options());
  return torch::zeros({vocab_size, 1 + vectors.size(1)}, vectors.options())
      .index_add_(0, codes, torch::cat({ones, vectors}, 1));
}

at::Tensor update_code_averages(const at::Tensor& average, const at::Tensor& sums, double decay,
                                double epsilon) {
  const torch::NoGradGuard no_grad;
  average.lerp_(sums, 1 - decay);
  const auto counts = average.narrow(1, 0, 1);  // [K, 1]
  const auto total = counts.sum();
  const auto smoothed =
      (counts + epsilon) / (total + static_cast<double>(counts.size(0)) * epsilon) * total;
  return average.narrow(1, 1, average.size(1) - 1) / smoothed;  // [K, D]
}

}  // namespace dalle
