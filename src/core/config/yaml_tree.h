#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace dalle {

/// A position in a YAML text, counted from 1; 0 where the parser does not know it.
struct YamlPlace {
  int64_t line = 0;
  int64_t column = 0;
};

/// A YAML document exactly as it was written: every key, repeated ones too, in order and with its
/// place, and scalars as text, so that the key decides what `010` or `yes` means. Aliases stand for
/// copies of what they name.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  YamlPlace place = {};
  std::string text = "";                ///< of a scalar
  bool is_quoted = false;               ///< 'so', "so", as a block, or tagged !!str
  std::vector<YamlNode> children = {};  ///< a list's items; a map's keys and values, alternating
};

/// Text that is not YAML, or YAML with constructs that a config does not need.
class YamlError : public Error {
 public:
  YamlError(YamlPlace where, const std::string& reason) : Error("{}", reason), place(where) {}

  YamlPlace place;
};

/// Parses one YAML document; text without any is null.
///
/// @throws YamlError at a syntax error, a second document, a tag other than !!str, an alias inside
///         the value that it names, or aliases that expand to more than 100,000 values
YamlNode parse_yaml(const std::string& text);

}  // namespace dalle
