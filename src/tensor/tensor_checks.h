#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Formats type and shape for error messages: "Float [8, 3, 64, 64]"; "no tensor" if undefined.
std::string describe_tensor(const at::Tensor& tensor);

/// @param codes  int64, of any shape
/// @throws dalle::Error "WHAT: found values from -1 to 16, expected values in [0, 16)"
void check_code_range(std::string_view what, const at::Tensor& codes, int64_t vocab_size);

}  // namespace dalle
