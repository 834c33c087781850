#include "sample/pixel_rectangle.h"

#include <array>
#include <cstddef>

#include "core/ascii.h"
#include "core/strict_number.h"

namespace dalle {

std::optional<PixelRectangle> parse_rectangle(std::string_view text) {
  std::array<int64_t, 4> numbers{};
  for (size_t i = 0; i < numbers.size(); ++i) {
    const bool is_last = i + 1 == numbers.size();
    const size_t length = is_last ? text.size() : text.find(',');
    if (length == text.npos) return std::nullopt;
    const auto number = parse_integer(trimmed(text.substr(0, length)));
    if (!number) return std::nullopt;
    numbers[i] = *number;
    text.remove_prefix(is_last ? length : length + 1);
  }
  return PixelRectangle{numbers[0], numbers[1], numbers[2], numbers[3]};
}

}  // namespace dalle
