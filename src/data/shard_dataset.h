#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/shards/shard_index.h"
#include "data/shards/shard_list.h"

namespace dalle {

/// WebDataset shards, such as those of img2dataset, with random access: shards are indexed once
/// (shard_index.h), and get() reads the bytes of a single sample.
///
/// A sample is an image (jpg, jpeg, png, webp or bmp; the first one if there are several) with the
/// captions in its `.txt` (one per line) or, if there are none, the "caption" in its `.json`. Keys
/// look like `00000.tar/000000012`.
///
/// A sample without an image or with a duplicate key is invalid. The lost part of a shard that is
/// truncated, corrupt or not a tar archive counts as one invalid sample. get() throws for them, so
/// they are counted, listed and replaced.
class ShardDataset final : public Dataset {
 public:
  /// @param path         see list_shards()
  /// @param index_cache  see shard_index_files()
  /// @throws dalle::Error naming the path if there are no shards, if one cannot be read, or if all
  ///         samples are invalid; the message explains the first of them
  ShardDataset(const std::string& path, const std::filesystem::path& index_cache);

  int64_t size() const override { return std::ssize(samples_); }
  /// @throws dalle::Error naming the sample if it is invalid, if the shard has changed since it was
  ///         opened or cannot be read, or if the captions are not UTF-8 or not JSON
  RawSample get(int64_t index) const override;
  std::string key(int64_t index) const override;
  std::vector<std::string> captions(int64_t index) const override;
  std::string missing_caption(int64_t index) const override;

 private:
  /// Small, because there may be millions. An empty range means that there is no such member.
  struct Sample {
    size_t shard = 0;
    std::string key;  ///< within the shard
    ByteRange image;
    ByteRange text;
    ByteRange json;
  };

  /// An open shard that has not changed since it was indexed.
  class Reader;

  bool index_shards(size_t begin, const std::filesystem::path& index_cache) const;
  void add_shard(size_t shard, ShardIndex index);
  void warn_of_defects(size_t shard, int64_t begin) const;
  [[noreturn]] void fail_without_samples(const std::string& path) const;
  void require_valid(int64_t index) const;
  std::vector<std::string> read_captions(const Reader& reader, int64_t index) const;
  const Sample& sample(int64_t index) const;

  std::vector<ShardFile> shards_;
  std::vector<ShardStamp> stamps_;
  std::vector<Sample> samples_;
  std::map<int64_t, std::string> defects_;  ///< why samples are invalid, by index
};

}  // namespace dalle
