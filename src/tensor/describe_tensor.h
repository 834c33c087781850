#pragma once

#include <string>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Formats type and shape for error messages: "Float [8, 3, 64, 64]"; "no tensor" if undefined.
std::string describe_tensor(const at::Tensor& tensor);

}  // namespace dalle
