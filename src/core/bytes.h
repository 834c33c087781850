#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace dalle {

/// The byte order of a file format.
enum class ByteOrder { kBig, kLittle };

static_assert(std::endian::native == std::endian::little);  // read_integer() relies on it

/// Reads the unsigned integer of `width` (1 to 4) bytes at `offset`.
/// @return  nothing if `bytes` ends before it does
inline std::optional<uint32_t> read_integer(std::string_view bytes, uint64_t offset, int width,
                                            ByteOrder order) {
  if (offset > bytes.size() || bytes.size() - offset < static_cast<uint64_t>(width))
    return std::nullopt;
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, static_cast<size_t>(width));
  return order == ByteOrder::kBig ? __builtin_bswap32(value) >> (32 - 8 * width) : value;
}

template <std::unsigned_integral Integer>
std::string integer_bytes(Integer value, ByteOrder order) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(Integer); ++i) {
    const size_t place = order == ByteOrder::kBig ? sizeof(Integer) - 1 - i : i;
    bytes += static_cast<char>(value >> (8 * place) & 0xff);
  }
  return bytes;
}

}  // namespace dalle
