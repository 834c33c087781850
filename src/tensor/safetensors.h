#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// The longest JSON header that a safetensors file may have, in bytes.
/// Source: MAX_HEADER_SIZE of the safetensors library
constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

/// The position, type and shape of one tensor in a safetensors file.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;           ///< the format's name: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;  ///< row-major; [] is a scalar
  int64_t begin = 0;           ///< first byte, relative to the end of the header
  int64_t end = 0;             ///< one past the last byte

  bool operator==(const SafetensorsEntry&) const = default;
};

/// The header of a safetensors file: 8 bytes of length (little-endian), then JSON.
/// Source: https://huggingface.co/docs/safetensors
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;        ///< in the order of the JSON
  std::map<std::string, std::string> metadata;  ///< the content of "__metadata__"
  int64_t data_start = 0;                       ///< offset of the data in the file

  bool operator==(const SafetensorsHeader&) const = default;
};

/// The size of one element of type `dtype` in bytes; nothing for an unsupported type.
std::optional<int64_t> safetensors_element_size(std::string_view dtype);

/// Reads and validates the header of a file. Every entry lies within the file and has as many bytes
/// as its shape and type require, and the entries cover the data without overlap or gap, so a
/// caller may allocate memory based on it.
/// @throws dalle::Error naming the file, the tensor and what is wrong
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);

/// Formats a header, including its length. The JSON is padded with spaces so that the data begins
/// at a multiple of 8 bytes. `header.data_start` is ignored.
/// @throws dalle::Error if a name or the metadata is not UTF-8
std::string format_safetensors_header(const SafetensorsHeader& header);

}  // namespace dalle
