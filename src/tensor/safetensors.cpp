#include "tensor/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <utility>

#include "core/error.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr const char* kMetadata = "__metadata__";
constexpr size_t kLengthSize = sizeof(uint64_t);

constexpr std::array<std::pair<std::string_view, int64_t>, 11> kElementSizes = {{{"BOOL", 1},
                                                                                 {"U8", 1},
                                                                                 {"I8", 1},
                                                                                 {"U16", 2},
                                                                                 {"I16", 2},
                                                                                 {"F16", 2},
                                                                                 {"BF16", 2},
                                                                                 {"I32", 4},
                                                                                 {"F32", 4},
                                                                                 {"I64", 8},
                                                                                 {"F64", 8}}};

/// Parses a header, and rejects what nlohmann's parser accepts: duplicate keys (the last would win)
/// and nesting deeper than any valid header has, which would only cost memory.
/// @param names  gets the top-level keys, in their order
nlohmann::json parse_strictly(const std::string& source, const std::string& text,
                              std::vector<std::string>& names) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the enclosing objects, outermost first
  const auto check = [&](int depth, Event event, const nlohmann::json& parsed) {
    if (event == Event::object_start || event == Event::array_start) {
      if (depth > 2) throw Error("{}: the header is nested more than three levels deep", source);
      keys.resize(static_cast<size_t>(depth) + 1);
      keys.back().clear();
    } else if (event == Event::key) {  // depth 1 is the top level
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.at(static_cast<size_t>(depth) - 1).insert(key).second)
        throw Error("{}: duplicate key {} in the header", source, parsed.dump());
      if (depth == 1) names.push_back(key);
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error("{}: not a safetensors file: invalid JSON in its header, at byte {}", source,
                kLengthSize + error.byte - 1);
  } catch (const nlohmann::json::out_of_range&) {
    throw Error("{}: a number in the header is out of range", source);
  }
}

/// A member of the JSON object of one tensor; `who` names the file and the tensor in messages.
const nlohmann::json& member_of(const std::string& who, const nlohmann::json& json,
                                const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) throw Error("{}: missing {}", who, key);
  return *found;
}

std::vector<int64_t> sizes_of(const std::string& who, const nlohmann::json& json, const char* key) {
  const nlohmann::json& list = member_of(who, json, key);
  if (!list.is_array()) throw Error("{}: {}: expected a list, found {}", who, key, list.dump());
  std::vector<int64_t> sizes;
  for (const nlohmann::json& value : list) {
    constexpr uint64_t kLimit = std::numeric_limits<int64_t>::max();
    if (!value.is_number_unsigned() || value.get<uint64_t>() > kLimit)
      throw Error("{}: {}: expected integers from 0 to {}, found {}", who, key, kLimit,
                  value.dump());
    sizes.push_back(value.get<int64_t>());
  }
  return sizes;
}

/// The size of a tensor in bytes; nothing if it overflows, even when dimensions of size 0 are left
/// out: libraries compute strides from the others.
std::optional<int64_t> byte_count(const std::vector<int64_t>& shape, int64_t element_size) {
  int64_t bytes = element_size;
  bool empty = false;
  for (const int64_t size : shape) {
    empty |= size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return empty ? 0 : bytes;
}

SafetensorsEntry parse_entry(const std::string& source, const std::string& name,
                             const nlohmann::json& json) {
  if (std::ranges::any_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    throw Error("{}: the name of a tensor contains a control character: {}", source,
                nlohmann::json(name).dump());
  const std::string who = fmt::format("{}: tensor \"{}\"", source, name);
  if (!json.is_object()) throw Error("{}: expected an object, found {}", who, json.type_name());
  for (const auto& [key, value] : json.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      throw Error("{}: unknown key \"{}\"", who, key);
  const nlohmann::json& dtype = member_of(who, json, "dtype");
  if (!dtype.is_string()) throw Error("{}: dtype: expected a string, found {}", who, dtype.dump());
  SafetensorsEntry entry{
      .name = name, .dtype = dtype.get<std::string>(), .shape = sizes_of(who, json, "shape")};
  const std::vector<int64_t> offsets = sizes_of(who, json, "data_offsets");
  if (offsets.size() != 2)
    throw Error("{}: data_offsets: expected two numbers, found {}", who, offsets.size());
  entry.begin = offsets[0];
  entry.end = offsets[1];
  if (entry.begin > entry.end)
    throw Error("{}: begins at byte {}, but ends at byte {}", who, entry.begin, entry.end);

  const auto element_size = safetensors_element_size(entry.dtype);
  if (!element_size)
    throw Error("{}: unsupported type {}", who, nlohmann::json(entry.dtype).dump());
  const auto bytes = byte_count(entry.shape, *element_size);
  if (!bytes) throw Error("{}: its shape is too large", who);
  if (*bytes != entry.end - entry.begin)
    throw Error("{}: its shape and type require {} bytes, but it has {}", who, *bytes,
                entry.end - entry.begin);
  return entry;
}

void check_coverage(const std::string& source, const std::vector<SafetensorsEntry>& entries,
                    int64_t data_size) {
  std::vector<const SafetensorsEntry*> by_offset;
  for (const SafetensorsEntry& entry : entries) by_offset.push_back(&entry);
  std::ranges::stable_sort(by_offset, {}, [](const SafetensorsEntry* entry) {
    return std::pair{entry->begin, entry->end};
  });
  int64_t covered = 0;
  for (const SafetensorsEntry* entry : by_offset) {
    if (entry->end > data_size)
      throw Error("{}: truncated: tensor \"{}\" ends at byte {} of the data, which has {}", source,
                  entry->name, entry->end, data_size);
    if (entry->begin < covered)
      throw Error("{}: tensor \"{}\": overlaps another tensor", source, entry->name);
    if (entry->begin > covered)
      throw Error("{}: tensor \"{}\": {} unused bytes before it", source, entry->name,
                  entry->begin - covered);
    covered = entry->end;
  }
  if (covered != data_size)
    throw Error("{}: {} bytes after the last tensor", source, data_size - covered);
}

std::map<std::string, std::string> parse_metadata(const std::string& source,
                                                  const nlohmann::json& json) {
  if (!json.is_object()) throw Error("{}: {}: expected an object", source, kMetadata);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string())
      throw Error("{}: {}: expected a string at \"{}\", found {}", source, kMetadata, key,
                  value.type_name());
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

SafetensorsHeader parse_header(const std::string& source, const std::string& text) {
  // nlohmann's parser takes a zero byte for the end of the text.
  if (!text.starts_with('{') || text.find('\0') != std::string::npos)
    throw Error("{}: not a safetensors file: its header is not a JSON object", source);
  std::vector<std::string> names;
  nlohmann::json json = parse_strictly(source, text, names);
  SafetensorsHeader header;
  for (const std::string& name : names) {
    if (name == kMetadata)
      header.metadata = parse_metadata(source, json[name]);
    else
      header.entries.push_back(parse_entry(source, name, json[name]));
  }
  return header;
}

}  // namespace

std::optional<int64_t> safetensors_element_size(std::string_view dtype) {
  for (const auto& [name, size] : kElementSizes)
    if (name == dtype) return size;
  return std::nullopt;
}

SafetensorsHeader read_safetensors_header(const std::filesystem::path& path) {
  const std::string source = path.string();
  if (std::filesystem::is_directory(path))
    throw Error("{}: expected a safetensors file, found a directory", source);
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw Error("{}: cannot read: {}", source, std::strerror(errno));
  const auto file_size = static_cast<int64_t>(file.tellg());
  file.seekg(0);

  uint64_t length = 0;
  if (file_size < static_cast<int64_t>(kLengthSize))
    throw Error("{}: not a safetensors file: it has {} bytes", source, file_size);
  file.read(reinterpret_cast<char*>(&length), kLengthSize);
  if (length > kMaxSafetensorsHeader)
    throw Error("{}: not a safetensors file: it claims a header of {} bytes, more than {}", source,
                length, kMaxSafetensorsHeader);
  const int64_t data_start = static_cast<int64_t>(kLengthSize + length);
  if (data_start > file_size)
    throw Error(
        "{}: claims a header of {} bytes, but has only {}: truncated, or not a safetensors file",
        source, length, file_size);
  std::string text(length, '\0');
  file.read(text.data(), static_cast<std::streamsize>(length));
  if (!file) throw Error("{}: cannot read: {}", source, std::strerror(errno));

  SafetensorsHeader header = parse_header(source, text);
  header.data_start = data_start;
  check_coverage(source, header.entries, file_size - data_start);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  std::string text = "{";  // built by hand: insertion into nlohmann::ordered_json is quadratic
  std::set<std::string_view> names;
  try {
    if (!header.metadata.empty())
      text += fmt::format("{}:{},", nlohmann::json(kMetadata).dump(),
                          nlohmann::json(header.metadata).dump());
    for (const SafetensorsEntry& entry : header.entries) {
      DALLE_CHECK(entry.name != kMetadata && names.insert(entry.name).second);
      const nlohmann::json json = {{"dtype", entry.dtype},
                                   {"shape", entry.shape},
                                   {"data_offsets", {entry.begin, entry.end}}};
      text += fmt::format("{}:{},", nlohmann::json(entry.name).dump(), json.dump());
    }
  } catch (const nlohmann::json::type_error&) {
    throw Error("a tensor's name or the metadata is not UTF-8");
  }
  if (text.ends_with(',')) text.pop_back();
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  DALLE_CHECK(length <= kMaxSafetensorsHeader);
  return std::string(reinterpret_cast<const char*>(&length), kLengthSize) + text;
}

}  // namespace dalle
