#include "sample/forced_codes.h"

#include <algorithm>

#include <ATen/core/Tensor.h>

#include "core/seeds.h"

namespace dalle {

std::vector<int64_t> forced_codes(const CaptionImages& request, int64_t image_length, uint64_t seed,
                                  int64_t image) {
  std::vector<int64_t> forced(static_cast<size_t>(image_length), kFreeCode);
  if (!request.forced.defined()) return forced;
  std::copy_n(request.forced.const_data_ptr<int64_t>(), image_length, forced.begin());
  for (size_t position = 0; position < forced.size(); ++position)
    if (to_unit(derive_seed(seed, SeedPurpose::kVariation, static_cast<uint64_t>(image),
                            position)) < request.variation)
      forced[position] = kFreeCode;
  return forced;
}

int64_t evaluated_positions(std::span<const int64_t> forced) {
  const auto last_free = std::find(forced.rbegin(), forced.rend(), kFreeCode);
  return std::max<int64_t>(1, forced.rend() - last_free);
}

}  // namespace dalle
