#include "core/base64.h"

#include <openssl/evp.h>

#include <algorithm>

#include "core/ascii.h"

namespace dalle {

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL adds a final zero
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                  reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  text.pop_back();
  return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
  std::string digits(text);
  std::erase_if(digits, [](char c) { return kAsciiWhitespace.find(c) != kAsciiWhitespace.npos; });
  const size_t padding = digits.size() - std::min(digits.find('='), digits.size());
  if (digits.size() % 4 != 0 || padding > 2 || !digits.ends_with(std::string(padding, '=')))
    return std::nullopt;
  std::string bytes(digits.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(digits.data()),
                                   static_cast<int>(digits.size()));
  if (size != static_cast<int>(bytes.size())) return std::nullopt;  // not digits
  bytes.resize(bytes.size() - padding);  // OpenSSL decodes padding to zeros
  return bytes;
}

}  // namespace dalle
