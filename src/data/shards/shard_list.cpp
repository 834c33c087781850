#include "data/shards/shard_list.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "core/log.h"
#include "data/image/image_file.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxPaths = 1'000'000;

struct Range {
  uint64_t first = 0;
  uint64_t last = 0;
  size_t width = 0;  ///< number of digits, padded with zeros
};

bool parse_shard_number(std::string_view text, uint64_t& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end;
}

Range parse_range(std::string_view content, const std::string& pattern) {
  const size_t dots = std::min(content.find(".."), content.size());
  const std::string_view first = content.substr(0, dots);
  const std::string_view last = content.substr(std::min(dots + 2, content.size()));
  Range range;
  if (!parse_shard_number(first, range.first) || !parse_shard_number(last, range.last))
    throw Error("{}: found {{{}}}, expected a range of numbers such as {{00000..00012}}", pattern,
                content);
  if (range.first > range.last)
    throw Error("{}: the range {{{}}} ends before it begins", pattern, content);
  const auto is_padded = [](std::string_view end) { return end.size() > 1 && end.front() == '0'; };
  if (is_padded(first) || is_padded(last)) range.width = std::max(first.size(), last.size());
  return range;
}

/// Compressed tar archives do not allow random access to samples.
bool is_compressed_tar(std::string_view name) {
  constexpr std::string_view kEndings[] = {".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz"};
  return std::ranges::any_of(kEndings, [&](std::string_view end) { return name.ends_with(end); });
}

/// Files in a folder that are not shards, but show what the user may have intended.
struct OtherFiles {
  int64_t compressed = 0;
  int64_t images = 0;
  std::string first_compressed;  ///< in alphabetical order

  void add(const std::string& name) {
    if (is_compressed_tar(name)) {
      if (compressed++ == 0 || name < first_compressed) first_compressed = name;
    } else if (const size_t dot = name.rfind('.');
               dot != std::string::npos && is_image_extension(name.substr(dot + 1))) {
      ++images;
    }
  }
};

[[noreturn]] void fail_without_shards(const fs::path& folder, const OtherFiles& others) {
  std::string found;
  if (others.compressed > 0)
    found = fmt::format("; {} files such as {} are compressed; decompress them first",
                        others.compressed, others.first_compressed);
  else if (others.images > 0)
    found = fmt::format("; to use its {} images, set data.kind=folder", others.images);
  throw Error("{}: found no .tar files in the folder, expected WebDataset shards{}",
              folder.string(), found);
}

std::vector<ShardFile> shards_in_folder(const fs::path& folder) {
  std::vector<ShardFile> shards;
  OtherFiles others;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with('.')) continue;
    if (name.ends_with(".tar"))
      shards.push_back({entry->path(), name});
    else
      others.add(name);
  }
  if (error) throw Error("{}: cannot read the folder: {}", folder.string(), error.message());
  if (shards.empty()) fail_without_shards(folder, others);
  if (others.compressed > 0)
    log_warning("{}: ignored {} compressed shards; decompress them first; the first is {}",
                folder.string(), others.compressed, others.first_compressed);
  std::ranges::sort(shards, {}, &ShardFile::name);
  return shards;
}

std::vector<ShardFile> shards_of_pattern(const std::string& pattern) {
  const std::vector<std::string> paths = expand_ranges(pattern);
  const size_t slash = pattern.find_last_of('/', pattern.find('{'));
  const size_t name_start = slash == std::string::npos ? 0 : slash + 1;
  std::vector<ShardFile> shards;
  std::string first_missing;
  for (const std::string& path : paths) {
    if (fs::exists(path))
      shards.push_back({path, path.substr(name_start)});
    else if (first_missing.empty())
      first_missing = path;
  }
  if (shards.empty())
    throw Error("{}: none of its {} shards exist; the first is {}", pattern, paths.size(),
                first_missing);
  if (!first_missing.empty())
    log_info("data: {} of the {} shards of {} are missing; the first is {}",
             paths.size() - shards.size(), paths.size(), pattern, first_missing);
  return shards;
}

}  // namespace

std::vector<std::string> expand_ranges(const std::string& pattern) {
  std::vector<std::string> expanded = {""};
  size_t done = 0;
  for (size_t open = pattern.find('{'); open != std::string::npos; open = pattern.find('{', done)) {
    const size_t close = pattern.find('}', open);
    if (close == std::string::npos)
      throw Error("{}: missing closing brace, expected a range such as {{00000..00012}}", pattern);
    const Range range =
        parse_range(std::string_view(pattern).substr(open + 1, close - open - 1), pattern);
    if (range.last - range.first >= kMaxPaths / expanded.size())
      throw Error("{}: expands to more than {} shards", pattern, kMaxPaths);
    const std::string literal = pattern.substr(done, open - done);
    std::vector<std::string> longer;
    for (const std::string& prefix : expanded)
      for (uint64_t number = range.first; number <= range.last; ++number)
        longer.push_back(fmt::format("{}{}{:0{}}", prefix, literal, number, range.width));
    expanded = std::move(longer);
    done = close + 1;
  }
  for (std::string& path : expanded) path += pattern.substr(done);
  return expanded;
}

std::vector<ShardFile> list_shards(const std::string& path) {
  if (fs::is_directory(path)) return shards_in_folder(path);
  if (fs::exists(path)) return {{path, fs::path(path).filename().string()}};
  if (path.find('{') != std::string::npos) return shards_of_pattern(path);
  throw Error(
      "{}: no such file or folder, expected a .tar file, a folder of them or a pattern "
      "such as data/{{00000..00012}}.tar",
      path);
}

}  // namespace dalle
