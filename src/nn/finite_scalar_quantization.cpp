#include "nn/finite_scalar_quantization.h"

#include <torch/types.h>

#include "core/error.h"
#include "nn/vector_quantization.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

/// A number per channel, as [d, 1, 1] on the device of `like`.
at::Tensor per_channel(const std::vector<int64_t>& numbers, const at::Tensor& like,
                       at::ScalarType type) {
  return to_device(torch::tensor(numbers, type), like.device()).view({-1, 1, 1});
}

/// The place value of each channel: the product of the levels before it.
std::vector<int64_t> places_of(const std::vector<int64_t>& levels) {
  std::vector<int64_t> places{1};
  for (size_t i = 0; i + 1 < levels.size(); ++i) places.push_back(places.back() * levels[i]);
  return places;
}

}  // namespace

at::Tensor fsq_round(const at::Tensor& latents, const std::vector<int64_t>& levels) {
  constexpr double kMargin = 1e-3;
  DALLE_CHECK(latents.dim() == 4 && latents.size(1) == static_cast<int64_t>(levels.size()));
  const auto count = per_channel(levels, latents, latents.scalar_type());  // [d, 1, 1]
  const auto half = (count - 1) * ((1 + kMargin) / 2);
  const auto offset = at::remainder(count + 1, 2) / 2;  // 0.5 for even numbers of levels
  const auto shift = (offset / half).atanh();
  const auto bounded = (latents + shift).tanh() * half - offset;  // [B, d, h, w]
  return straight_through(bounded.round(), bounded) / at::floor_divide(count, 2);
}

at::Tensor fsq_codes(const at::Tensor& values, const std::vector<int64_t>& levels) {
  const auto half_width = at::floor_divide(per_channel(levels, values, torch::kLong), 2);
  const auto digits = (values.detach() * half_width).round().to(torch::kLong) + half_width;
  return (digits * per_channel(places_of(levels), values, torch::kLong)).sum(1);  // [B, h, w]
}

at::Tensor fsq_values(const at::Tensor& codes, const std::vector<int64_t>& levels,
                      at::ScalarType type) {
  const auto count = per_channel(levels, codes, torch::kLong);  // [d, 1, 1]
  const auto half_width = at::floor_divide(count, 2);
  const auto digits = at::remainder(
      at::floor_divide(codes.unsqueeze(1), per_channel(places_of(levels), codes, torch::kLong)),
      count);  // [B, d, h, w]
  return (digits - half_width).to(type) / half_width.to(type);
}

}  // namespace dalle
