#pragma once

#include <cstdint>
#include <string_view>

namespace dalle {

/// The Castagnoli cyclic redundancy check, which TensorBoard's record format uses.
/// Source: RFC 3720, section 12.1
uint32_t crc32c(std::string_view bytes);

}  // namespace dalle
