#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// Longest JSON header that a safetensors file may have.
/// Source: MAX_HEADER_SIZE of the safetensors library
constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

/// Where one tensor of a safetensors file lies, and what its bytes are.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;           ///< the format's name: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;  ///< row-major; [] is a scalar
  int64_t begin = 0;           ///< first byte, counted from the end of the header
  int64_t end = 0;             ///< one past the last byte

  bool operator==(const SafetensorsEntry&) const = default;
};

/// The header of a safetensors file: 8 bytes of length (little-endian), then JSON.
/// Source: https://huggingface.co/docs/safetensors
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;        ///< in the order of the JSON
  std::map<std::string, std::string> metadata;  ///< the free text of "__metadata__"
  int64_t data_start = 0;                       ///< byte of the file at which the data begins

  bool operator==(const SafetensorsHeader&) const = default;
};

/// Bytes of one element of the format's `dtype`; nothing for a type we do not read.
std::optional<int64_t> safetensors_element_size(std::string_view dtype);

/// Reads the header of a file and believes none of it: afterwards every entry lies within the file,
/// has as many bytes as its shape and type need, and the entries cover the data without overlap or
/// gap. So a reader may allocate by it.
/// @throws dalle::Error naming the file, the tensor and what is wrong
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);

/// The first bytes of a file with these entries, length included. The JSON is padded with spaces so
/// that the data begins at a multiple of 8. `data_start` is not read.
/// @throws dalle::Error if a name or the metadata is not UTF-8
std::string format_safetensors_header(const SafetensorsHeader& header);

}  // namespace dalle
