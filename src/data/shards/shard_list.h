#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dalle {

/// A shard and its name within the data set, which does not change if the data set is moved.
struct ShardFile {
  std::filesystem::path path;
  std::string name;

  bool operator==(const ShardFile&) const = default;
};

/// Expands all ranges like `{00000..00012}` of a pattern; the last one varies fastest. If an end of
/// a range begins with a zero, numbers are padded to the width of the ends.
///
/// @throws dalle::Error if braces contain anything else, or if the pattern expands to more than a
///         million paths
std::vector<std::string> expand_ranges(const std::string& pattern);

/// Returns the shards at a path: a `.tar` file, the `.tar` files in a folder sorted by name, or the
/// existing files of a pattern. One log line reports missing files of a pattern.
///
/// @throws dalle::Error naming the path if there are no shards
std::vector<ShardFile> list_shards(const std::string& path);

}  // namespace dalle
