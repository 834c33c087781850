#include "tensor/describe_tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace dalle {

std::string describe_tensor(const at::Tensor& tensor) {
  if (!tensor.defined()) return "no tensor";
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes().begin(), tensor.sizes().end(), ", "));
}

}  // namespace dalle
