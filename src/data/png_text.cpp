#include "dalle/data/png_text.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>

#include "dalle/core/error.h"

namespace dalle {
namespace {

constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
constexpr size_t kChunkOverhead = 12;  // length, type and CRC, four bytes each
constexpr size_t kHeaderEnd =
    kSignature.size() + kChunkOverhead + 13;  // IHDR is always first and 13 bytes long

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

uint32_t from_big_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes.substr(0, 4)) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

std::string chunk(std::string_view type, std::string_view content) {
  std::string checked(type);
  checked += content;
  const auto crc =
      crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size()));
  return big_endian(static_cast<uint32_t>(content.size())) + checked +
         big_endian(static_cast<uint32_t>(crc));
}

void check_signature(std::string_view png) {
  if (!png.starts_with(kSignature) || png.size() < kHeaderEnd) throw Error("not a PNG file");
}

}  // namespace

std::string add_png_text(std::string_view png, const std::vector<PngText>& texts) {
  check_signature(png);
  std::string result(png.substr(0, kHeaderEnd));
  for (const auto& [keyword, text] : texts) {
    const bool printable =
        std::ranges::all_of(keyword, [](char c) { return c >= ' ' && c <= '~'; });
    if (keyword.empty() || keyword.size() > 79 || !printable)
      throw Error("PNG keyword '{}': expected 1 to 79 printable ASCII characters", keyword);
    // keyword, end, not compressed (flag, method), no language tag, no translated keyword, text
    result += chunk("iTXt", keyword + std::string(5, '\0') + text);
  }
  result += png.substr(kHeaderEnd);
  return result;
}

std::vector<PngText> read_png_text(std::string_view png) {
  check_signature(png);
  std::vector<PngText> texts;
  for (size_t at = kSignature.size(); at < png.size();) {
    if (png.size() - at < kChunkOverhead) throw Error("PNG file is cut short");
    const size_t size = from_big_endian(png.substr(at));
    if (png.size() - at - kChunkOverhead < size) throw Error("PNG file is cut short");
    const std::string_view type = png.substr(at + 4, 4);
    const std::string_view content = png.substr(at + 8, size);
    at += kChunkOverhead + size;
    const size_t end = content.find('\0');
    if (type != "iTXt" || end == std::string_view::npos || end + 5 > content.size() ||
        content[end + 1] != 0)
      continue;
    const size_t language_end = content.find('\0', end + 3);
    if (language_end == std::string_view::npos) continue;
    const size_t translation_end = content.find('\0', language_end + 1);
    if (translation_end == std::string_view::npos) continue;
    texts.emplace_back(content.substr(0, end), content.substr(translation_end + 1));
  }
  return texts;
}

}  // namespace dalle
