#include "data/image/png_text.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>

#include "core/bytes.h"
#include "core/error.h"

namespace dalle {
namespace {

using namespace std::string_view_literals;

// The signature, then the length (always 13) and the type of the first chunk.
constexpr std::string_view kFileStart = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"sv;
constexpr size_t kHeaderEnd = kFileStart.size() + 13 + 4;  // its content and CRC

std::string chunk(std::string_view type, std::string_view content) {
  std::string checked(type);
  checked += content;
  const auto crc =
      crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size()));
  return integer_bytes(static_cast<uint32_t>(content.size()), ByteOrder::kBig) + checked +
         integer_bytes(static_cast<uint32_t>(crc), ByteOrder::kBig);
}

}  // namespace

std::string add_png_text(std::string_view png, const std::vector<PngText>& texts) {
  if (!png.starts_with(kFileStart) || png.size() < kHeaderEnd) throw Error("not a PNG file");
  std::string result(png.substr(0, kHeaderEnd));
  for (const auto& [keyword, text] : texts) {
    const bool is_printable =
        std::ranges::all_of(keyword, [](char c) { return c >= ' ' && c <= '~'; });
    if (keyword.empty() || keyword.size() > 79 || !is_printable)
      throw Error("PNG keyword '{}': expected 1 to 79 printable ASCII characters", keyword);
    // The zeros end the keyword, say that the text is not compressed (flag and method), and stand
    // for an empty language tag and an empty translated keyword.
    result += chunk("iTXt", std::string(keyword).append(5, '\0').append(text));
  }
  result += png.substr(kHeaderEnd);
  return result;
}

}  // namespace dalle
