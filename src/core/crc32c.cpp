#include "core/crc32c.h"

#include <array>

namespace dalle {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41 with its bits reversed

/// The remainder of each byte value: one table lookup per byte replaces eight shifts.
constexpr std::array<uint32_t, 256> kRemainders = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit)
      remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kPolynomial : 0);
    table[byte] = remainder;
  }
  return table;
}();

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t remainder = ~uint32_t{0};
  for (const char byte : bytes)
    remainder = (remainder >> 8) ^ kRemainders[(remainder ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~remainder;
}

}  // namespace dalle
