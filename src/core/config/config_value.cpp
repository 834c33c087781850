#include "core/config/config_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <type_traits>

#include "core/ascii.h"
#include "core/error.h"

namespace dalle {
namespace {

std::string number_text(double number) {
  const double size = std::abs(number);
  // Fixed notation where people read it best; YAML 1.1 wants a point in the other one too.
  const auto format = size == 0 || (size >= 1e-4 && size < 1e15) ? std::chars_format::fixed
                                                                 : std::chars_format::scientific;
  std::array<char, 64> buffer;
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, format);
  DALLE_CHECK(error == std::errc{});
  std::string text(buffer.data(), end);
  const size_t exponent = text.find('e');
  if (exponent != text.npos && text[exponent + 2] == '0') text.erase(exponent + 2, 1);  // e-08
  if (text.find('.') == text.npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return text;
}

/// Whether YAML readers, those of version 1.1 too, take the text without quotes for itself.
bool is_plain(std::string_view text) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/';
  };
  const auto is_inner = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == ' ';
  };
  if (text.empty() || !is_letter(text.front()) || text.back() == ' ') return false;
  if (!std::ranges::all_of(text, is_inner)) return false;
  const std::string word = lower_case(text);
  constexpr std::array<std::string_view, 10> kWords = {"true", "false", "yes", "no",   "on",
                                                       "off",  "y",     "n",   "null", "nan"};
  return std::ranges::find(kWords, word) == kWords.end();
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      result += {'\\', c};
    else if (c == '\n')
      result += "\\n";
    else if (c == '\t')
      result += "\\t";
    else if (byte < 0x20 || byte == 0x7f)
      result += fmt::format("\\x{:02x}", byte);
    else
      result += c;
  }
  return result + '"';
}

std::string text_of(const std::string& text) {
  return is_plain(text) ? text : in_quotes(text);
}

bool holds_maps(const ConfigValue::List& list) {
  return std::ranges::any_of(list, [](const ConfigValue& item) {
    return std::holds_alternative<ConfigValue::Map>(item.data);
  });
}

void dump_map(const ConfigValue::Map& map, const std::string& indent, std::string& out);

void dump_entry(const ConfigValue& value, const std::string& indent, std::string& out) {
  if (const auto* map = std::get_if<ConfigValue::Map>(&value.data); map && !map->empty()) {
    out += '\n';
    dump_map(*map, indent + "  ", out);
    return;
  }
  const auto* list = std::get_if<ConfigValue::List>(&value.data);
  if (list == nullptr || !holds_maps(*list)) {
    out += ' ' + dump_inline(value) + '\n';
    return;
  }
  out += '\n';
  for (const ConfigValue& item : *list) {
    const auto& map_of_item = std::get<ConfigValue::Map>(item.data);
    std::string block;
    dump_map(map_of_item, indent + "    ", block);
    if (map_of_item.empty()) block = indent + "    {}\n";
    block[indent.size() + 2] = '-';  // takes the place of the first key's indent
    out += block;
  }
}

void dump_map(const ConfigValue::Map& map, const std::string& indent, std::string& out) {
  for (const ConfigEntry& entry : map) {
    out += indent + text_of(entry.key) + ':';
    dump_entry(entry.value, indent, out);
  }
}

}  // namespace

bool ConfigValue::operator==(const ConfigValue& other) const {
  return data == other.data;
}

std::string dump_yaml(const ConfigValue& map) {
  std::string text;
  dump_map(std::get<ConfigValue::Map>(map.data), "", text);
  return text;
}

std::string dump_inline(const ConfigValue& value) {
  const auto bracket = [](const auto& items, char open, char close, const auto& text_of_item) {
    std::string text(1, open);
    for (const auto& item : items) text += (text.size() > 1 ? ", " : "") + text_of_item(item);
    return text + close;
  };
  return std::visit(
      [&](const auto& held) -> std::string {
        using Held = std::remove_cvref_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::monostate>) {
          return "null";
        } else if constexpr (std::is_same_v<Held, bool>) {
          return held ? "true" : "false";
        } else if constexpr (std::is_same_v<Held, int64_t>) {
          return std::to_string(held);
        } else if constexpr (std::is_same_v<Held, double>) {
          return number_text(held);
        } else if constexpr (std::is_same_v<Held, std::string>) {
          return text_of(held);
        } else if constexpr (std::is_same_v<Held, ConfigValue::List>) {
          return bracket(held, '[', ']', [](const ConfigValue& item) { return dump_inline(item); });
        } else {
          return bracket(held, '{', '}', [](const ConfigEntry& entry) {
            return text_of(entry.key) + ": " + dump_inline(entry.value);
          });
        }
      },
      value.data);
}

}  // namespace dalle
