#include "tensor/seeded_uniform.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

constexpr uint64_t kStreamStep = 0x9e3779b97f4a7c15ULL;  // as in SeedStream
constexpr float kLargest = 1.0F - 0x1.0p-24F;            // since 31 bits may round up to 1

constexpr float to_open_unit(uint64_t half) {
  const auto bits = static_cast<int32_t>((half & 0xffffffffULL) >> 1);
  return std::min(static_cast<float>(bits) * 0x1.0p-31F + 0x1.0p-32F, kLargest);
}

void fill_row(float* row, int64_t count, uint64_t seed) {
  constexpr int64_t kPairsPerTask = 16'384;
  at::parallel_for(0, (count + 1) / 2, kPairsPerTask, [=](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const uint64_t bits = mix_bits(seed + (static_cast<uint64_t>(j) + 1) * kStreamStep);
      row[2 * j] = to_open_unit(bits);
      if (2 * j + 1 < count) row[2 * j + 1] = to_open_unit(bits >> 32);
    }
  });
}

// LibTorch has no unsigned 64-bit arithmetic. Signed products have the same bits, and a right shift
// only needs its sign bits masked.
at::Tensor shift_right(const at::Tensor& x, int64_t bits) {
  return x.bitwise_right_shift(bits).bitwise_and_(std::numeric_limits<int64_t>::max() >>
                                                  (bits - 1));
}

at::Tensor mix_bits(at::Tensor x) {
  x = (x ^ shift_right(x, 30)).mul_(static_cast<int64_t>(0xbf58476d1ce4e5b9ULL));
  x = (x ^ shift_right(x, 27)).mul_(static_cast<int64_t>(0x94d049bb133111ebULL));
  return x ^ shift_right(x, 31);
}

}  // namespace

at::Tensor seeded_uniform(std::span<const uint64_t> seeds, int64_t count, at::Device device) {
  DALLE_CHECK(count >= 0);
  if (!device.is_cpu()) return seeded_uniform_by_tensor_operations(seeds, count, device);
  auto numbers = torch::empty({static_cast<int64_t>(seeds.size()), count});
  for (size_t i = 0; i < seeds.size(); ++i)
    fill_row(numbers.mutable_data_ptr<float>() + static_cast<int64_t>(i) * count, count, seeds[i]);
  return numbers;
}

at::Tensor seeded_uniform_by_tensor_operations(std::span<const uint64_t> seeds, int64_t count,
                                               at::Device device) {
  DALLE_CHECK(count >= 0);
  const std::vector<int64_t> signed_seeds(seeds.begin(), seeds.end());
  const auto starts =
      to_device(torch::tensor(signed_seeds, torch::kLong), device).unsqueeze(1);  // [n, 1]
  const auto positions = torch::arange(1, (count + 1) / 2 + 1, at::device(device).dtype(at::kLong));
  const auto bits = mix_bits(starts + positions * static_cast<int64_t>(kStreamStep));  // [n, pairs]
  const auto halves =
      torch::stack({shift_right(bits.bitwise_and(0xffffffffLL), 1), shift_right(bits, 33)},
                   /*dim=*/2)
          .flatten(1)
          .slice(1, 0, count);  // [n, count]
  return halves.to(at::kFloat).mul_(0x1.0p-31).add_(0x1.0p-32).clamp_max_(kLargest).contiguous();
}

}  // namespace dalle
