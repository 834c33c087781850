#include "data/shard_dataset.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/image/image_file.h"
#include "data/random_access_file.h"
#include "data/text/captions.h"

namespace dalle {
namespace {

/// Stands for the samples of a shard, or of its end, that cannot be read. It is part of the
/// fingerprints of existing runs, so it must not change.
constexpr const char* kLostSamplesKey = "(what is lost)";

/// The range of the member with this extension; empty if there is none.
ByteRange range_of(const ShardSample& sample, std::string_view extension) {
  for (const ShardMember& member : sample.members)
    if (member.extension == extension) return member.bytes;
  return {};
}

/// Returns, for example, ".jpg, .cls, .npy and 2 more".
std::string list_members(const ShardSample& sample) {
  constexpr size_t kShown = 3;
  std::string list;
  for (size_t i = 0; i < std::min(kShown, sample.members.size()); ++i)
    list += (i > 0 ? ", ." : ".") + sample.members[i].extension;
  if (sample.members.size() > kShown)
    list += fmt::format(" and {} more", sample.members.size() - kShown);
  return list;
}

/// Whether a member is an image with dots in its name: WebDataset defines IMG_2019.05.00.jpg as the
/// member .05.00.jpg of sample IMG_2019.
bool has_hidden_image(const ShardSample& sample) {
  return std::ranges::any_of(sample.members, [](const ShardMember& member) {
    const size_t dot = member.extension.rfind('.');
    return dot != std::string::npos && is_image_extension(member.extension.substr(dot + 1));
  });
}

std::string missing_image(const ShardSample& sample) {
  return fmt::format(
      "no image among its members {}; expected .jpg, .jpeg, .png, .webp or .bmp{}",
      list_members(sample),
      has_hidden_image(sample)
          ? " (in WebDataset shards, the extension begins at the first dot of the file name)"
          : "");
}

}  // namespace

/// Opened for every sample: one descriptor per shard could exceed the system's limit, and an open
/// file would hide that a shard was replaced.
class ShardDataset::Reader {
 public:
  Reader(const ShardFile& shard, const ShardStamp& stamp)
      : file_(shard.path, RandomAccessFile::Mode::kRead) {
    if (shard_stamp(shard.path) != stamp)
      throw Error("{}: has changed since this run opened it", shard.path.string());
  }

  std::string read(const ByteRange& range) const {
    std::string bytes(range.size, '\0');
    file_.read(static_cast<int64_t>(range.offset), bytes.data(), std::ssize(bytes));
    return bytes;
  }

 private:
  RandomAccessFile file_;
};

ShardDataset::ShardDataset(const std::string& path, const std::filesystem::path& index_cache)
    : shards_(list_shards(path)), stamps_(shards_.size()) {
  bool is_indexing = false;
  std::optional<Progress> progress;  // if indices cannot be stored
  // One index at a time: it is several times as large as what is kept of it.
  for (size_t i = 0; i < shards_.size(); ++i) {
    stamps_[i] = shard_stamp(shards_[i].path);
    std::optional<ShardIndex> index = load_shard_index(shards_[i].path, index_cache);
    if (!index) {
      if (!is_indexing) log_info("data: indexing the shards in {}", path);
      if (!is_indexing && !index_shards(i, index_cache))
        progress.emplace("data: indexing shards", std::ssize(shards_));
      is_indexing = true;
      index = load_shard_index(shards_[i].path, index_cache);
      if (!index) index = make_shard_index(shards_[i].path, index_cache);
    }
    if (progress) progress->update(static_cast<int64_t>(i) + 1);
    add_shard(i, *std::move(index));
  }
  if (std::ssize(defects_) == size()) fail_without_samples(path);
}

/// Stores the indices that are missing, from `begin` on. It starts at a random shard, so that the
/// ranks of a training run, which all do this, share the work instead of each reading everything.
/// @return  whether it could store them; it ends at the first that it could not
bool ShardDataset::index_shards(size_t begin, const std::filesystem::path& index_cache) const {
  const size_t count = shards_.size() - begin;
  Progress progress("data: indexing shards", static_cast<int64_t>(count));
  const size_t first = std::random_device()();
  for (size_t i = 0; i < count; ++i) {
    const std::filesystem::path& shard = shards_[begin + (first + i) % count].path;
    if (!load_shard_index(shard, index_cache)) {
      make_shard_index(shard, index_cache);
      if (!load_shard_index(shard, index_cache)) return false;
    }
    progress.update(static_cast<int64_t>(i) + 1);
  }
  return true;
}

void ShardDataset::add_shard(size_t shard, ShardIndex index) {
  const int64_t begin = size();
  for (ShardSample& sample : index.samples) {
    const auto image =
        std::ranges::find_if(sample.members, is_image_extension, &ShardMember::extension);
    const bool has_image = image != sample.members.end();
    if (!sample.defect.empty())
      defects_[size()] = std::move(sample.defect);
    else if (!has_image)
      defects_[size()] = missing_image(sample);
    samples_.push_back({.shard = shard,
                        .key = std::move(sample.key),
                        .image = has_image ? image->bytes : ByteRange(),
                        .text = range_of(sample, "txt"),
                        .json = range_of(sample, "json")});
  }
  warn_of_defects(shard, begin);
  const int64_t readable = size() - begin;
  const std::string name = shards_[shard].path.string();
  if (index.error.empty()) {
    if (readable == 0) log_warning("{}: contains no samples", name);
    return;
  }
  if (readable > 0)
    log_warning("{}: only its first {} samples can be read: {}", name, readable, index.error);
  else
    log_warning("{}: skipped: {}", name, index.error);
  defects_[size()] = readable > 0
                         ? fmt::format("only the first {} samples of the shard can be read: {}",
                                       readable, index.error)
                         : index.error;
  samples_.push_back({.shard = shard, .key = kLostSamplesKey, .image = {}, .text = {}, .json = {}});
}

/// Logs one line per shard, with the first invalid sample from `begin` on.
void ShardDataset::warn_of_defects(size_t shard, int64_t begin) const {
  const auto first = defects_.lower_bound(begin);
  if (first == defects_.end()) return;
  log_warning("{}: {} of its {} samples are invalid; the first is {}: {}",
              shards_[shard].path.string(), std::distance(first, defects_.end()), size() - begin,
              samples_[first->first].key, first->second);
}

void ShardDataset::fail_without_samples(const std::string& path) const {
  if (samples_.empty())
    throw Error("{}: its {} shards contain no samples, expected at least one", path,
                shards_.size());
  const auto& [index, defect] = *defects_.begin();
  if (std::ranges::all_of(samples_, [](const Sample& lost) { return lost.key == kLostSamplesKey; }))
    throw Error("{}: none of its {} shards can be read; the first is {}: {}", path, shards_.size(),
                shards_[sample(index).shard].name, defect);
  throw Error("{}: all {} samples in {} shards are invalid; the first is {}: {}", path, size(),
              shards_.size(), key(index), defect);
}

/// @throws dalle::Error if the sample is invalid
void ShardDataset::require_valid(int64_t index) const {
  if (const auto defect = defects_.find(index); defect != defects_.end())
    throw Error("{}", defect->second);
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
  require_valid(index);
  return read_captions(Reader(shards_[chosen.shard], stamps_[chosen.shard]), index);
}

/// Lists the shard again, because names of other members are not kept in memory.
std::string ShardDataset::missing_caption(int64_t index) const {
  const Sample& chosen = sample(index);
  if (chosen.json.size > 0) return "no .txt with text, and no \"caption\" in its .json";
  for (const ShardSample& found : index_of(list_tar(shards_[chosen.shard].path)).samples)
    if (found.key == chosen.key)
      return fmt::format("no .txt or .json among its members {}", list_members(found));
  return "no .txt or .json";
}

RawSample ShardDataset::get(int64_t index) const {
  const Sample& chosen = sample(index);
  require_valid(index);
  if (chosen.image.size > kMaxImageFileBytes)
    throw Error("{}: the image has {} bytes, more than the limit of {}", key(index),
                chosen.image.size, kMaxImageFileBytes);
  const Reader reader(shards_[chosen.shard], stamps_[chosen.shard]);
  return {.key = key(index),
          .image = reader.read(chosen.image),
          .captions = read_captions(reader, index)};
}

}  // namespace dalle
