#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/shards/tar_listing.h"

namespace dalle {

/// The position of a member's bytes in its shard.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t size = 0;

  bool operator==(const ByteRange&) const = default;
};

struct ShardMember {
  std::string extension;  ///< the part of the base name after its first dot, in lowercase
  ByteRange bytes;

  bool operator==(const ShardMember&) const = default;
};

/// The members of a shard that share a key.
struct ShardSample {
  std::string key;  ///< the path of the members up to the first dot of the base name
  std::vector<ShardMember> members = {};
  std::string defect = {};  ///< why the sample is invalid; empty if it is valid

  bool operator==(const ShardSample&) const = default;
};

/// The content of a WebDataset shard: read once from the archive, then from a small index file.
struct ShardIndex {
  std::vector<ShardSample> samples = {};
  std::string error;  ///< why the archive cannot be read after the samples; empty if it can

  bool operator==(const ShardIndex&) const = default;
};

/// Detects whether a shard has changed since it was indexed.
struct ShardStamp {
  uint64_t bytes = 0;
  int64_t modified_ns = 0;

  bool operator==(const ShardStamp&) const = default;
};

/// @throws dalle::Error if the shard is inaccessible
ShardStamp shard_stamp(const std::filesystem::path& shard);

/// Groups the members of a shard into samples according to WebDataset's rules. Ignores hidden
/// files, names without an extension, and names like `__...__`.
///
/// Members with the same key need not be adjacent: an archive may contain all images first and then
/// all captions. Duplicate members form an invalid sample of their own, "KEY (occurrence 2)".
ShardIndex index_of(const TarListing& listing);

/// Formats an index file: lines of text, followed by their SHA-256.
std::string format_shard_index(const ShardIndex& index, const ShardStamp& stamp);

/// @return the index; nothing if `text` is corrupt or has another version or stamp
std::optional<ShardIndex> parse_shard_index(std::string_view text, const ShardStamp& stamp);

/// Returns the files that may contain the index of a shard in order of preference: next to the
/// shard, then in the cache.
///
/// @param cache  folder for the indices of read-only shards; if empty, $XDG_CACHE_HOME/dalle or
///               ~/.cache/dalle, or none if neither XDG_CACHE_HOME nor HOME is set
std::vector<std::filesystem::path> shard_index_files(const std::filesystem::path& shard,
                                                     const std::filesystem::path& cache);

/// Loads the stored index of a shard; nothing if there is none for its current stamp.
std::optional<ShardIndex> load_shard_index(const std::filesystem::path& shard,
                                           const std::filesystem::path& cache);

/// Indexes a shard and stores the index in the first file that can be written. Logs a warning if
/// none can, because the archive is then read again at every start.
///
/// @throws dalle::Error like list_tar()
ShardIndex make_shard_index(const std::filesystem::path& shard, const std::filesystem::path& cache);

}  // namespace dalle
