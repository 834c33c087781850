#include "tensor/tensor_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace dalle {

std::string describe_tensor(const at::Tensor& tensor) {
  if (!tensor.defined()) return "no tensor";
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes().begin(), tensor.sizes().end(), ", "));
}

void check_code_range(std::string_view what, const at::Tensor& codes, int64_t vocab_size) {
  if (codes.numel() == 0) return;
  const auto [min, max] = codes.aminmax();
  const auto smallest = min.item<int64_t>(), largest = max.item<int64_t>();
  if (smallest < 0 || largest >= vocab_size)
    throw Error("{}: found values from {} to {}, expected values in [0, {})", what, smallest,
                largest, vocab_size);
}

}  // namespace dalle
