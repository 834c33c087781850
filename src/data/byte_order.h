#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dalle {

enum class ByteOrder { kBig, kLittle };

/// The unsigned integer of `width` bytes at `offset`, or nothing where the bytes end before.
inline std::optional<uint32_t> read_integer(std::string_view bytes, uint64_t offset, int width,
                                            ByteOrder order) {
  if (offset > bytes.size() || bytes.size() - offset < static_cast<uint64_t>(width))
    return std::nullopt;
  uint32_t value = 0;
  for (int i = 0; i < width; ++i) {
    const uint64_t place = offset + (order == ByteOrder::kBig ? i : width - 1 - i);
    value = value << 8 | static_cast<uint8_t>(bytes[place]);
  }
  return value;
}

}  // namespace dalle
