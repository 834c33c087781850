#pragma once

#include <string>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Type and shape for an error message, as in "Float [8, 3, 64, 64]".
std::string describe_tensor(const at::Tensor& tensor);

}  // namespace dalle
