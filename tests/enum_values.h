#pragma once

#include <string>
#include <vector>

#include "core/fields.h"

namespace dalle {

/// All values of an enum, for testing::ValuesIn(): tests then cover a new value without a change.
template <NamedEnum E>
std::vector<E> enum_values() {
  std::vector<E> values;
  for (const auto& [value, name] : enum_names(E{})) values.push_back(value);
  return values;
}

/// Names the tests of a suite whose parameter is an enum.
inline constexpr auto kEnumName = [](const auto& test) {
  return std::string(to_string(test.param));
};

}  // namespace dalle
