#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// How a report presents a number of an evaluation.
struct EvaluationNumber {
  std::string label;
  std::string unit;        ///< "%" for shares, which are stored in [0, 1]; empty: none
  std::string definition;  ///< in one line; docs/evaluation.md has the details
};

/// @return  nothing for a number that no suite has
std::optional<EvaluationNumber> describe_number(std::string_view suite, std::string_view name);

/// "97.3 %", "40.92 dB": a value with the unit of its number.
std::string format_value(double value, std::string_view unit);

/// "95.1 to 98.6 %": an interval with the unit of its number.
std::string format_interval(double low, double high, std::string_view unit);

/// One line per number: its suite, name, value and interval.
std::string evaluation_table(const nlohmann::ordered_json& evaluation);

}  // namespace dalle
