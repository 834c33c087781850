#pragma once

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace dalle {

/// @param codes  int64, of any shape
/// @throws dalle::Error "WHAT: found values from -1 to 16, expected values in [0, 16)"
void check_code_range(std::string_view what, const at::Tensor& codes, int64_t vocab_size);

}  // namespace dalle
