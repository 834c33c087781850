#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dalle {

/// A shard and its name within the data set, which stays the same when the data set is moved.
struct ShardFile {
  std::filesystem::path path;
  std::string name;

  bool operator==(const ShardFile&) const = default;
};

/// Expands every range `{00000..00012}` of a pattern, the last one fastest. Numbers are padded to
/// the width of the range's ends where one of these begins with a zero.
///
/// @throws dalle::Error if a brace holds no such range, or the pattern stands for over a million
///         paths
std::vector<std::string> expand_ranges(const std::string& pattern);

/// The shards that a path stands for: a `.tar` file, the `.tar` files of a folder in the byte order
/// of their names, or those of a pattern's that exist. One log line tells of the missing ones.
///
/// @throws dalle::Error naming the path if there is no shard
std::vector<ShardFile> list_shards(const std::string& path);

}  // namespace dalle
