#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dalle/data/dataset.h"
#include "dalle/data/shard_index.h"
#include "dalle/data/shard_list.h"

namespace dalle {

/// WebDataset shards, as img2dataset writes them, with random access: shards are indexed once
/// (shard_index.h), and get() then reads a sample's bytes from where they are.
///
/// A sample is an image (jpg, jpeg, png, webp or bmp; the first one where there are several) with
/// the captions of its `.txt` (one a line) or, where there are none, the "caption" of its `.json`.
/// A sample without an image or one that comes a second time is a bad one, and so is, as one, what
/// is lost of a shard that is truncated, corrupt or no tar archive: get() throws, and
/// they are counted, listed and replaced like any other. Keys are `00000.tar/000000012`.
class ShardDataset final : public Dataset {
 public:
  /// @param path         see list_shards()
  /// @param index_cache  see shard_index_files()
  /// @throws dalle::Error naming the path if there is no shard, if the file system does not let one
  ///         be read, or if no sample has an image; the message says what is wrong with the first
  ShardDataset(const std::string& path, const std::filesystem::path& index_cache);

  int64_t size() const override { return std::ssize(samples_); }
  /// @throws dalle::Error naming the sample if it has no image or is lost, if the shard has changed
  ///         since it was opened or cannot be read, or the captions are not UTF-8 or not JSON
  Example get(int64_t index) const override;
  std::string key(int64_t index) const override;
  std::vector<std::string> captions(int64_t index) const override;
  std::string missing_caption(int64_t index) const override;

  const std::vector<ShardFile>& shards() const { return shards_; }

 private:
  /// Kept small, for there may be millions. A range of no bytes stands for no such member.
  struct Sample {
    size_t shard = 0;
    std::string key;  ///< within the shard
    ByteRange picture;
    ByteRange text;
    ByteRange json;
  };

  /// An open shard that is still the one that was indexed.
  class Reader;

  void add_shard(size_t shard, ShardIndex index);
  void warn_of_defects(size_t shard, int64_t begin) const;
  [[noreturn]] void fail_without_samples(const std::string& path) const;
  void require_whole(int64_t index) const;
  std::vector<std::string> read_captions(const Reader& reader, int64_t index) const;
  const Sample& sample(int64_t index) const;

  std::vector<ShardFile> shards_;
  std::vector<ShardStamp> stamps_;
  std::vector<Sample> samples_;
  std::map<int64_t, std::string> defects_;  ///< by index, why the sample cannot be used
};

}  // namespace dalle
