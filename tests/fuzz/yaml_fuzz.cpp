#include <optional>
#include <string>
#include <vector>

#include "core/config/config_io.h"
#include "core/config/yaml_tree.h"
#include "fuzz/fuzz.h"

namespace dalle {
namespace {

enum class Color { kRed, kDarkBlue };

[[maybe_unused]] constexpr auto enum_names(Color) {
  return names_in_order<Color>("red", "dark_blue");
}

struct Inner {
  int64_t whole = 3;
  std::optional<double> maybe = 0.5;
  std::vector<Color> colors = {Color::kRed};

  bool operator==(const Inner&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("whole", self.whole, {.help = "", .min = 1, .max = 1000});
    visit("maybe", self.maybe, {.help = ""});
    visit("colors", self.colors, {.help = ""});
  }
};

/// A key of every type.
struct Outer {
  bool flag = false;
  double number = 0.5;
  std::string text = "a";
  Color color = Color::kRed;
  std::vector<std::string> texts;
  Inner inner;

  bool operator==(const Outer&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("flag", self.flag, {.help = ""});
    visit("number", self.number, {.help = ""});
    visit("text", self.text, {.help = ""});
    visit("color", self.color, {.help = ""});
    visit("texts", self.texts, {.help = ""});
    visit("inner", self.inner, {.help = ""});
  }
};

}  // namespace

/// A config that loads is dumped to text that loads to an equal one, and that to the same text. The
/// input is a file and, after a zero byte, an override.
void fuzz(std::string_view input) {
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string text(input.substr(0, end));
  accepts([&] { parse_yaml(text); });
  std::vector<std::string> overrides;
  if (end < input.size()) overrides.emplace_back(input.substr(end + 1));
  Outer config;
  if (!accepts([&] { config = load_config_text<Outer>(text, "fuzz", overrides); })) return;
  const std::string dumped = dump_config(config);
  const auto again = load_config_text<Outer>(dumped, "dumped");
  DALLE_CHECK(again == config);
  DALLE_CHECK(dump_config(again) == dumped);
}

}  // namespace dalle
