#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dalle/data/tar_listing.h"

namespace dalle {

/// Where a member's bytes are in its shard.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t size = 0;

  bool operator==(const ByteRange&) const = default;
};

struct ShardMember {
  std::string extension;  ///< what follows the first dot of the member's base name, in lower case
  ByteRange bytes;

  bool operator==(const ShardMember&) const = default;
};

/// The members of a shard that share a key.
struct ShardSample {
  std::string key;  ///< the members' path up to the first dot of the base name
  std::vector<ShardMember> members = {};
  std::string defect = {};  ///< why it cannot be used; empty: nothing

  bool operator==(const ShardSample&) const = default;
};

/// What a WebDataset shard holds: read once from the archive, then from a small file.
struct ShardIndex {
  std::vector<ShardSample> samples = {};
  std::string damage;  ///< what is wrong with the archive after the samples; empty: nothing

  bool operator==(const ShardIndex&) const = default;
};

/// Tells whether a shard is still the one that was indexed.
struct ShardStamp {
  uint64_t bytes = 0;
  int64_t modified_ns = 0;

  bool operator==(const ShardStamp&) const = default;
};

/// @throws dalle::Error if the shard cannot be reached
ShardStamp shard_stamp(const std::filesystem::path& shard);

/// Groups a shard's members into samples by WebDataset's rules; names without an extension, hidden
/// ones and names `__...__` are left out.
///
/// Members of one key need not be adjacent: an archive may hold all images first and all captions
/// after them. What comes a second time is a sample of its own, "KEY (occurrence 2)", with a
/// defect.
ShardIndex index_of(const TarListing& listing);

/// The file form of an index: text lines, closed by a SHA-256 of what is before.
std::string format_shard_index(const ShardIndex& index, const ShardStamp& stamp);

/// @return the index; none where `text` is damaged, of another version or of another stamp
std::optional<ShardIndex> parse_shard_index(std::string_view text, const ShardStamp& stamp);

/// Files that may hold a shard's index, the preferred one first: beside the shard, then in the
/// cache.
///
/// @param cache  folder for indices of read-only shards; empty: $XDG_CACHE_HOME/dalle or
///               ~/.cache/dalle, and none where neither variable is set
std::vector<std::filesystem::path> shard_index_files(const std::filesystem::path& shard,
                                                     const std::filesystem::path& cache);

/// The stored index of a shard, if there is one that fits.
std::optional<ShardIndex> load_shard_index(const std::filesystem::path& shard,
                                           const std::filesystem::path& cache);

/// Reads the archive and stores its index in the first file that can be written; where none can, a
/// warning says that it will be read again next time.
///
/// @throws dalle::Error as list_tar() does
ShardIndex make_shard_index(const std::filesystem::path& shard, const std::filesystem::path& cache);

}  // namespace dalle
