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
#include "dalle/core/progress.h"
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

/// ".jpg, .cls and 3 more"
std::string list_members(const ShardSample& sample) {
  constexpr size_t kShown = 3;
  std::string list;
  for (size_t i = 0; i < std::min(kShown, sample.members.size()); ++i)
    list += (i > 0 ? ", ." : ".") + sample.members[i].extension;
  if (sample.members.size() > kShown)
    list += fmt::format(" and {} more", sample.members.size() - kShown);
  return list;
}

/// Whether a name with several dots hides an image: IMG_2019.05.00.jpg is member .05.00.jpg of the
/// sample IMG_2019 to every reader of WebDataset.
bool has_hidden_image(const ShardSample& sample) {
  return std::ranges::any_of(sample.members, [](const ShardMember& member) {
    const size_t dot = member.extension.rfind('.');
    return dot != std::string::npos && is_picture_extension(member.extension.substr(dot + 1));
  });
}

std::string missing_image(const ShardSample& sample) {
  return fmt::format(
      "no image among its members {}; expected .jpg, .jpeg, .png, .webp or .bmp{}",
      list_members(sample),
      has_hidden_image(sample)
          ? " (in WebDataset shards the extension begins at the first dot of the file name)"
          : "");
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
    : shards_(list_shards(path)), stamps_(shards_.size()) {
  std::vector<std::optional<ShardIndex>> indices;
  for (size_t i = 0; i < shards_.size(); ++i) {
    stamps_[i] = shard_stamp(shards_[i].path);
    indices.push_back(load_shard_index(shards_[i].path, index_cache));
  }
  const auto missing =
      std::ranges::count_if(indices, [](const auto& index) { return !index.has_value(); });
  if (missing > 0) log_info("data: indexing {} of {} shards in {}", missing, shards_.size(), path);
  Progress progress("data: indexing shards", missing);
  int64_t made = 0;
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (!indices[i]) {
      indices[i] = make_shard_index(shards_[i].path, index_cache);
      progress.update(++made);
    }
    add_shard(i, *std::exchange(indices[i], std::nullopt));
  }
  if (std::ssize(defects_) == size()) fail_without_samples(path);
}

void ShardDataset::add_shard(size_t shard, ShardIndex index) {
  const int64_t begin = size();
  for (ShardSample& sample : index.samples) {
    const auto image =
        std::ranges::find_if(sample.members, is_picture_extension, &ShardMember::extension);
    const bool has_image = image != sample.members.end();
    if (!sample.defect.empty())
      defects_[size()] = std::move(sample.defect);
    else if (!has_image)
      defects_[size()] = missing_image(sample);
    samples_.push_back({.shard = shard,
                        .key = std::move(sample.key),
                        .picture = has_image ? image->bytes : ByteRange(),
                        .text = range_of(sample, "txt"),
                        .json = range_of(sample, "json")});
  }
  warn_of_defects(shard, begin);
  const int64_t intact = size() - begin;
  const std::string name = shards_[shard].path.string();
  if (index.damage.empty()) {
    if (intact == 0) log_warning("{}: contains no samples", name);
    return;
  }
  if (intact > 0)
    log_warning("{}: using only the {} samples before the damage: {}", name, intact, index.damage);
  else
    log_warning("{}: skipped: {}", name, index.damage);
  defects_[size()] = intact > 0
                         ? fmt::format("everything after the shard's first {} samples is lost: {}",
                                       intact, index.damage)
                         : index.damage;
  samples_.push_back(
      {.shard = shard, .key = "(what is lost)", .picture = {}, .text = {}, .json = {}});
}

/// One line for each shard, with the first of its samples from `begin` on that cannot be used.
void ShardDataset::warn_of_defects(size_t shard, int64_t begin) const {
  const auto first = defects_.lower_bound(begin);
  if (first == defects_.end()) return;
  log_warning("{}: {} of its {} samples cannot be used; the first is {}: {}",
              shards_[shard].path.string(), std::distance(first, defects_.end()), size() - begin,
              samples_[first->first].key, first->second);
}

void ShardDataset::fail_without_samples(const std::string& path) const {
  if (samples_.empty())
    throw Error("{}: found {} shards without samples, expected at least one sample", path,
                shards_.size());
  const auto& [index, defect] = *defects_.begin();
  throw Error("{}: none of the {} samples in {} shards can be used; the first is {}: {}", path,
              size(), shards_.size(), key(index), defect);
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

/// Reads the names in the shard once more, for a message.
std::string ShardDataset::missing_caption(int64_t index) const {
  const Sample& chosen = sample(index);
  if (chosen.json.size > 0) return "no .txt with text, and no \"caption\" in its .json";
  for (const ShardSample& found : index_of(list_tar(shards_[chosen.shard].path)).samples)
    if (found.key == chosen.key)
      return fmt::format("no .txt or .json among its members {}", list_members(found));
  return "no .txt or .json";
}

Example ShardDataset::get(int64_t index) const {
  const Sample& chosen = sample(index);
  require_whole(index);
  if (chosen.picture.size > kMaxPictureFileBytes)
    throw Error("{}: the image has {} bytes, more than the {} allowed", key(index),
                chosen.picture.size, kMaxPictureFileBytes);
  const Reader reader(shards_[chosen.shard], stamps_[chosen.shard]);
  return {.key = key(index),
          .image = reader.read(chosen.picture),
          .captions = read_captions(reader, index)};
}

}  // namespace dalle
