#include "dalle/data/shard_dataset.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "dalle/core/error.h"
#include "dalle/core/log.h"
#include "dalle/data/captions.h"
#include "dalle/data/picture_file.h"

namespace dalle {
namespace {

/// The range of the member with the extension; of no bytes where there is none.
ByteRange range_of(const ShardSample& sample, std::string_view extension) {
  for (const ShardMember& member : sample.members)
    if (member.extension == extension) return member.bytes;
  return {};
}

}  // namespace

/// Opened for every read: a descriptor a shard would run into the system's limit, and an open file
/// would hide that the shard was replaced. The position is pread()'s own, so threads never meet.
class ShardDataset::Reader {
 public:
  Reader(const ShardFile& shard, const ShardStamp& stamp)
      : path_(shard.path), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) throw Error("{}: cannot read: {}", path_.string(), std::strerror(errno));
    if (shard_stamp(path_) != stamp) {
      ::close(descriptor_);
      throw Error("{}: has changed since this run opened it", path_.string());
    }
  }
  ~Reader() { ::close(descriptor_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  std::string read(const ByteRange& range) const {
    std::string bytes(range.size, '\0');
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t count = ::pread(descriptor_, bytes.data() + done, bytes.size() - done,
                                    static_cast<off_t>(range.offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0)
        throw Error("{}: cannot read {} bytes at {}: {}", path_.string(), range.size, range.offset,
                    count < 0 ? std::strerror(errno) : "the file ends before");
      done += static_cast<size_t>(count);
    }
    return bytes;
  }

 private:
  const std::filesystem::path& path_;
  int descriptor_;
};

ShardDataset::ShardDataset(const std::string& path, const std::filesystem::path& index_cache)
    : shards_(list_shards(path)) {
  std::vector<std::optional<ShardIndex>> stored;
  for (const ShardFile& shard : shards_) {
    stamps_.push_back(shard_stamp(shard.path));
    stored.push_back(load_shard_index(shard.path, index_cache));
  }
  const auto has_none = [](const auto& index) { return !index.has_value(); };
  if (const auto missing = std::ranges::count_if(stored, has_none); missing > 0)
    log_info("data: indexing {} of {} shards of {}", missing, shards_.size(), path);
  for (size_t i = 0; i < shards_.size(); ++i)
    add_shard(i,
              stored[i] ? std::move(*stored[i]) : make_shard_index(shards_[i].path, index_cache));
  if (defects_.size() == samples_.size())
    throw Error(
        "{}: no sample with a picture in {} shards, looked for members .jpg, .jpeg, .png, "
        ".webp and .bmp",
        path, shards_.size());
}

void ShardDataset::add_shard(size_t shard, ShardIndex index) {
  const std::string name = shards_[shard].path.string();
  const auto count = index.samples.size();
  int64_t without_picture = 0;
  for (ShardSample& sample : index.samples) {
    const auto picture =
        std::ranges::find_if(sample.members, is_picture_extension, &ShardMember::extension);
    const bool has_picture = picture != sample.members.end();
    if (!has_picture) {
      ++without_picture;
      defects_[size()] = "no picture among the members of the sample";
    }
    samples_.push_back({.shard = shard,
                        .key = std::move(sample.key),
                        .picture = has_picture ? picture->bytes : ByteRange(),
                        .text = range_of(sample, "txt"),
                        .json = range_of(sample, "json")});
  }
  if (without_picture > 0)
    log_warning("{}: {} of its {} samples have no picture", name, without_picture, count);
  if (index.damage.empty()) return;
  log_warning("{}: damaged, its {} samples in front of the damage are used ({})", name, count,
              index.damage);
  defects_[size()] = fmt::format(
      "the shard is damaged, what lies behind its first {} samples is "
      "lost: {}",
      count, index.damage);
  samples_.push_back(
      {.shard = shard, .key = "(what is lost)", .picture = {}, .text = {}, .json = {}});
}

/// @throws dalle::Error if nothing is to be read of the sample
void ShardDataset::require_whole(int64_t index) const {
  if (const auto defect = defects_.find(index); defect != defects_.end())
    throw Error("{}: {}", key(index), defect->second);
}

const ShardDataset::Sample& ShardDataset::sample(int64_t index) const {
  DALLE_CHECK(index >= 0 && index < size());
  return samples_[index];
}

std::string ShardDataset::key(int64_t index) const {
  return shards_[sample(index).shard].name + "/" + sample(index).key;
}

std::vector<std::string> ShardDataset::read_captions(const Reader& reader, int64_t index) const {
  const Sample& chosen = sample(index);
  const std::string text = reader.read(chosen.text);
  std::string_view source = ".txt";
  try {
    std::vector<std::string> captions = parse_captions(text);
    if (!captions.empty() || chosen.json.size == 0) return captions;
    source = ".json";
    return parse_json_captions(reader.read(chosen.json));
  } catch (const Error& error) {
    throw Error("{}{}: {}", key(index), source, error.what());
  }
}

std::vector<std::string> ShardDataset::captions(int64_t index) const {
  const Sample& chosen = sample(index);
  require_whole(index);
  return read_captions(Reader(shards_[chosen.shard], stamps_[chosen.shard]), index);
}

Example ShardDataset::get(int64_t index) const {
  const Sample& chosen = sample(index);
  require_whole(index);
  if (chosen.picture.size > kMaxPictureFileBytes)
    throw Error("{}: the picture has {} bytes, more than the {} that are allowed", key(index),
                chosen.picture.size, kMaxPictureFileBytes);
  const Reader reader(shards_[chosen.shard], stamps_[chosen.shard]);
  return {.key = key(index),
          .image = reader.read(chosen.picture),
          .captions = read_captions(reader, index)};
}

}  // namespace dalle
