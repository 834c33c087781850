#include "core/strict_number.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/ascii.h"

namespace dalle {
namespace {

/// A decimal literal, split into its parts.
struct Decimal {
  bool is_negative = false;
  std::string_view whole;     ///< digits before the point
  std::string_view fraction;  ///< digits after it
  int exponent = 0;
  bool has_point = false;
  bool has_exponent = false;
};

std::string_view take_digits(std::string_view& text) {
  const size_t count = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view digits = text.substr(0, count);
  text.remove_prefix(count);
  return digits;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == text.npos) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal decimal;
  decimal.is_negative = text.starts_with('-');
  take(text, "+-");
  decimal.whole = take_digits(text);
  decimal.has_point = take(text, ".");
  if (decimal.has_point) decimal.fraction = take_digits(text);
  if (decimal.whole.empty() && decimal.fraction.empty()) return std::nullopt;
  decimal.has_exponent = take(text, "eE");
  if (decimal.has_exponent) {
    const bool is_negative = text.starts_with('-');
    take(text, "+-");
    const std::string_view digits = take_digits(text);
    if (digits.empty() || digits.size() > 4) return std::nullopt;
    std::from_chars(digits.data(), digits.data() + digits.size(), decimal.exponent);
    if (is_negative) decimal.exponent = -decimal.exponent;
  }
  if (!text.empty()) return std::nullopt;
  return decimal;
}

bool has_leading_zero(const Decimal& decimal) {
  return decimal.whole.size() > 1 && decimal.whole.front() == '0';
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  const std::optional<Decimal> decimal = parse_decimal(text);
  if (!decimal || has_leading_zero(*decimal)) return std::nullopt;
  if (decimal->has_point && !decimal->has_exponent) return std::nullopt;
  // Exact: the digits are moved, never computed with.
  std::string digits = std::string(decimal->whole) + std::string(decimal->fraction);
  const auto shift = decimal->exponent - static_cast<int64_t>(decimal->fraction.size());
  if (digits.find_first_not_of('0') == digits.npos) return 0;
  if (shift > 18) return std::nullopt;
  if (shift > 0) digits.append(static_cast<size_t>(shift), '0');
  for (int64_t i = shift; i < 0; ++i) {
    if (digits.empty() || digits.back() != '0') return std::nullopt;
    digits.pop_back();
  }
  if (decimal->is_negative) digits.insert(digits.begin(), '-');
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  const std::optional<Decimal> decimal = parse_decimal(text);
  if (!decimal || has_leading_zero(*decimal)) return std::nullopt;
  take(text, "+");  // from_chars knows only the minus
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::string_view integer_advice(std::string_view text) {
  constexpr double kTwoTo63 = 9223372036854775808.0;
  if (const auto number = parse_number(text);
      number && std::abs(*number) >= kTwoTo63 && !parse_integer(text))
    return "that fits in 64 bits";
  return number_advice(text);
}

std::string_view number_advice(std::string_view text) {
  std::string plain(text);
  std::erase(plain, '_');
  if (plain.size() < text.size() && parse_decimal(plain)) return "without underscores";
  if (const auto decimal = parse_decimal(text); decimal && has_leading_zero(*decimal))
    return "without leading zeros";
  plain = lower_case(plain);
  const size_t start = std::min(plain.find_first_not_of("+-."), plain.size());
  const std::string_view word = std::string_view(plain).substr(start);
  if (word == "nan" || word == "inf" || word == "infinity") return "that is finite";
  return "";
}

}  // namespace dalle
