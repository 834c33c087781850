#include "data/shards/shard_index.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "core/ascii.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTitle = "dalle shard index, version 2";
constexpr size_t kDigestLineBytes = 65;  // 64 hexadecimal digits and a newline

/// Splits the name of a member into key and extension; nothing if it is not part of a sample.
std::optional<std::pair<std::string, std::string>> split_name(std::string_view name) {
  if (name.starts_with("./")) name.remove_prefix(2);
  const size_t slash = name.find_last_of('/');
  const size_t start = slash == std::string_view::npos ? 0 : slash + 1;
  const std::string_view base = name.substr(start);
  if (base.starts_with("__") && base.ends_with("__")) return std::nullopt;
  const size_t dot = base.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot + 1 == base.size()) return std::nullopt;
  return std::pair{std::string(name.substr(0, start + dot)), lower_case(base.substr(dot + 1))};
}

bool has_member(const ShardSample& sample, std::string_view extension) {
  return std::ranges::find(sample.members, extension, &ShardMember::extension) !=
         sample.members.end();
}

/// Appends `text` prefixed with its length, so that it may contain any byte, including newlines.
void add_text(std::string& out, std::string_view text) {
  out += fmt::format("{} {}\n", text.size(), text);
}

/// Parses the output of format_shard_index(). All functions return false for invalid input.
class IndexReader {
 public:
  explicit IndexReader(std::string_view text) : text_(text) {}

  template <class Integer>
  bool read_number(Integer& number, char end) {
    const auto [last, error] = std::from_chars(text_.data(), text_.data() + text_.size(), number);
    if (error != std::errc()) return false;
    text_.remove_prefix(static_cast<size_t>(last - text_.data()));
    return skip(std::string_view(&end, 1));
  }

  bool read_text(std::string& text) {
    size_t length = 0;
    if (!read_number(length, ' ') || length > text_.size()) return false;
    text = text_.substr(0, length);
    text_.remove_prefix(length);
    return skip("\n");
  }

  bool skip(std::string_view expected) {
    if (!text_.starts_with(expected)) return false;
    text_.remove_prefix(expected.size());
    return true;
  }

  bool at_end() const { return text_.empty(); }

 private:
  std::string_view text_;
};

bool read_sample(IndexReader& reader, ShardSample& sample) {
  size_t members = 0;
  if (!reader.read_number(members, ' ') || !reader.read_text(sample.key) ||
      !reader.read_text(sample.defect))
    return false;
  for (size_t i = 0; i < members; ++i) {
    ShardMember member;
    if (!reader.read_number(member.bytes.offset, ' ') ||
        !reader.read_number(member.bytes.size, ' ') || !reader.read_text(member.extension))
      return false;
    sample.members.push_back(std::move(member));
  }
  return true;
}

fs::path default_cache() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0')
    return fs::path(cache) / "dalle";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return fs::path(home) / ".cache" / "dalle";
  return {};
}

}  // namespace

ShardStamp shard_stamp(const fs::path& shard) {
  struct stat status = {};
  if (::stat(shard.c_str(), &status) != 0)
    throw Error("{}: cannot read: {}", shard.string(), std::strerror(errno));
  return {.bytes = static_cast<uint64_t>(status.st_size),
          .modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

ShardIndex index_of(const TarListing& listing) {
  struct Known {
    size_t sample = 0;  ///< index of the first one with its key
    int64_t occurrences = 1;
  };
  ShardIndex index{.error = listing.error};
  std::vector<ShardSample>& samples = index.samples;
  std::unordered_map<std::string, Known> known;
  std::string previous_key;
  size_t current = 0;
  for (const TarMember& member : listing.members) {
    auto name = split_name(member.name);
    if (!name) continue;
    auto& [key, extension] = *name;
    const auto [place, is_new] = known.try_emplace(key, Known{.sample = samples.size()});
    if (is_new) samples.push_back({.key = key});
    if (key != previous_key) current = place->second.sample;
    if (has_member(samples[current], extension)) {
      samples.push_back(
          {.key = fmt::format("{} (occurrence {})", key, ++place->second.occurrences),
           .defect = fmt::format(
               "duplicate member '.{}' of sample '{}' in this shard; the first one is used",
               extension, key)});
      current = samples.size() - 1;
    }
    if (member.is_sparse)
      samples[current].defect =
          fmt::format("member '.{}' is a sparse file, which is not supported", extension);
    samples[current].members.push_back({std::move(extension), {member.offset, member.size}});
    previous_key = std::move(key);
  }
  return index;
}

std::string format_shard_index(const ShardIndex& index, const ShardStamp& stamp) {
  std::string text =
      fmt::format("{}\nshard {} {}\ndamage ", kTitle, stamp.bytes, stamp.modified_ns);
  add_text(text, index.error);
  for (const ShardSample& sample : index.samples) {
    text += fmt::format("{} ", sample.members.size());
    add_text(text, sample.key);
    add_text(text, sample.defect);
    for (const auto& [extension, bytes] : sample.members) {
      text += fmt::format("{} {} ", bytes.offset, bytes.size);
      add_text(text, extension);
    }
  }
  return text + sha256(text) + "\n";
}

std::optional<ShardIndex> parse_shard_index(std::string_view text, const ShardStamp& stamp) {
  if (text.size() < kDigestLineBytes) return std::nullopt;
  const std::string_view content = text.substr(0, text.size() - kDigestLineBytes);
  if (text.substr(content.size()) != sha256(content) + "\n") return std::nullopt;
  IndexReader reader(content);
  ShardStamp indexed;
  ShardIndex index;
  if (!reader.skip(kTitle) || !reader.skip("\nshard ") || !reader.read_number(indexed.bytes, ' ') ||
      !reader.read_number(indexed.modified_ns, '\n') || indexed != stamp ||
      !reader.skip("damage ") || !reader.read_text(index.error))
    return std::nullopt;
  while (!reader.at_end())
    if (!read_sample(reader, index.samples.emplace_back())) return std::nullopt;
  return index;
}

std::vector<fs::path> shard_index_files(const fs::path& shard, const fs::path& cache) {
  std::vector<fs::path> files = {shard};
  files.front() += ".index";
  const fs::path folder = cache.empty() ? default_cache() : cache;
  if (!folder.empty()) {  // shards with equal names in different folders share the cache
    const std::string location = sha256(fs::weakly_canonical(shard).string()).substr(0, 16);
    files.push_back(folder / fmt::format("{}-{}.index", shard.filename().string(), location));
  }
  return files;
}

std::optional<ShardIndex> load_shard_index(const fs::path& shard, const fs::path& cache) {
  const ShardStamp stamp = shard_stamp(shard);
  for (const fs::path& file : shard_index_files(shard, cache)) {
    std::error_code ignored;  // an inaccessible file is not a usable index
    if (!fs::is_regular_file(file, ignored)) continue;
    try {
      if (auto index = parse_shard_index(read_file(file), stamp)) return index;
    } catch (const Error&) {  // it may belong to another user
    }
  }
  return std::nullopt;
}

ShardIndex make_shard_index(const fs::path& shard, const fs::path& cache) {
  const ShardStamp stamp = shard_stamp(shard);  // taken first, to detect changes during the read
  ShardIndex index = index_of(list_tar(shard));
  const std::string text = format_shard_index(index, stamp);
  std::string reason;
  for (const fs::path& file : shard_index_files(shard, cache)) {
    try {
      make_directories(file.parent_path());
      write_file_atomically(file, text);
      return index;
    } catch (const Error& error) {
      // Another process may have stored the index of the same shard at the same time.
      if (load_shard_index(shard, cache) == index) return index;
      reason = error.what();
    }
  }
  log_warning("{}: cannot store its index, which will be recomputed at every start: {}",
              shard.string(), reason);
  return index;
}

}  // namespace dalle
