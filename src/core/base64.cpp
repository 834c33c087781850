#include "core/base64.h"

#include <openssl/evp.h>

#include <array>
#include <cstdint>

#include "core/ascii.h"

namespace dalle {
namespace {

constexpr std::string_view kBase64Digits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNotADigit = 64;

constexpr std::array<uint8_t, 256> kBase64Values = [] {
  std::array<uint8_t, 256> values{};
  values.fill(kNotADigit);
  for (size_t i = 0; i < kBase64Digits.size(); ++i)
    values[static_cast<unsigned char>(kBase64Digits[i])] = static_cast<uint8_t>(i);
  return values;
}();

}  // namespace

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL adds a final zero
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                  reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  text.pop_back();
  return text;
}

// OpenSSL's decoder does not say how many bytes the padding stands for.
std::optional<std::string> decode_base64(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  size_t digits = 0, padding = 0;
  for (const char c : text) {
    if (kAsciiWhitespace.find(c) != kAsciiWhitespace.npos) continue;
    const uint8_t value = kBase64Values[static_cast<unsigned char>(c)];
    if (c == '=') {
      ++padding;
    } else if (value == kNotADigit || padding > 0) {
      return std::nullopt;
    } else {
      bits = bits << 6 | value;
      if (++digits % 4 == 0)
        for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xff);
    }
  }
  const size_t rest = digits % 4;  // 2 digits are 12 bits and hold one byte, 3 hold two
  if (rest == 1 || padding != (4 - rest) % 4) return std::nullopt;
  if (rest == 2) bytes += static_cast<char>(bits >> 4 & 0xff);
  if (rest == 3)
    for (const int shift : {10, 2}) bytes += static_cast<char>(bits >> shift & 0xff);
  return bytes;
}

}  // namespace dalle
