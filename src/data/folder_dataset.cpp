#include "data/folder_dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/ascii.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/image/image_file.h"
#include "data/text/captions.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Folders of file systems and tools, which contain thumbnails, deleted files, snapshots or
/// metadata.
constexpr std::string_view kSystemFolders[] = {
    "@eaDir",    "@Recycle",     "@Recently-Snapshot",        "@tmp",       "#recycle",
    "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX",
    "CVS"};

/// The result of a search. Paths are relative to the folder.
struct FolderContent {
  std::vector<std::string> images;
  std::map<std::string, std::string> unusual_captions;
  std::map<std::string, int64_t> other_kinds;  ///< number of files by lowercase extension
  std::vector<std::string> system_folders;
  std::vector<std::string> run_folders;
  std::vector<std::string> forbidden_folders;
};

/// Searches a folder breadth first. Symbolic links are followed last, so a folder that is reachable
/// both directly and by a link is always found under its own path.
class ImageSearch {
 public:
  explicit ImageSearch(const fs::path& root) : root_(root) {}

  FolderContent run() {
    read_folder("");
    while (!folders_.empty() || !linked_folders_.empty()) {
      std::deque<fs::path>& next = folders_.empty() ? linked_folders_ : folders_;
      const fs::path folder = std::move(next.front());
      next.pop_front();
      read_folder(folder);
    }
    std::ranges::sort(content_.images);
    return std::move(content_);
  }

 private:
  void read_folder(const fs::path& relative) {
    const fs::path folder = root_ / relative;
    std::vector<fs::directory_entry> entries;
    std::error_code error;
    if (is_new(folder, error))
      for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
           entry.increment(error))
        entries.push_back(*entry);
    if (error == std::errc::permission_denied && !relative.empty()) {
      content_.forbidden_folders.push_back(relative.string());
      return;
    }
    if (error) throw Error("{}: cannot read the folder: {}", folder.string(), error.message());
    if (is_run_folder(entries)) {
      content_.run_folders.push_back(relative.empty() ? root_.string() : relative.string());
      if (!relative.empty()) return;
      // Images are in the same folder as the run's own files.
      std::erase_if(entries, [](const fs::directory_entry& entry) {
        const fs::path name = entry.path().filename();
        return name == "samples" || name == "checkpoints" || name == "tensorboard";
      });
    }
    std::ranges::sort(entries);
    for (const fs::directory_entry& entry : entries) classify(entry, relative);
  }

  /// True the first time a folder is seen; folders are identified by device and inode.
  bool is_new(const fs::path& folder, std::error_code& error) {
    struct stat status = {};
    if (::stat(folder.c_str(), &status) == 0)
      return visited_.emplace(status.st_dev, status.st_ino).second;
    error = {errno, std::generic_category()};
    return false;
  }

  /// Recognizes the files that dalle-train creates before it opens the data. A copy may lack one.
  static bool is_run_folder(const std::vector<fs::directory_entry>& entries) {
    return std::ranges::count_if(entries, [](const fs::directory_entry& entry) {
             const std::string& path = entry.path().native();
             return path.ends_with("/run.lock") || path.ends_with("/config.yaml") ||
                    path.ends_with("/versions.json");
           }) >= 2;
  }

  void classify(const fs::directory_entry& entry, const fs::path& folder) {
    const fs::path name = entry.path().filename();
    if (name.native().starts_with('.')) return;
    std::error_code ignored;  // of a broken link; get() reports it if it is an image
    const bool is_link = entry.is_symlink(ignored);
    if (entry.is_directory(ignored)) {
      if (std::ranges::find(kSystemFolders, name.native()) != std::end(kSystemFolders))
        content_.system_folders.push_back((folder / name).string());
      else
        (is_link ? linked_folders_ : folders_).push_back(folder / name);
      return;
    }
    if (!is_link && !entry.is_regular_file(ignored)) return;
    const std::string extension = name.extension().string();
    const fs::path path = folder / name;
    if (!extension.empty() && is_image_extension(extension.substr(1)))
      content_.images.push_back(path.generic_string());
    else if (lower_case(extension) != ".txt")
      ++content_.other_kinds[lower_case(extension)];
    else if (extension != ".txt")
      content_.unusual_captions.emplace(fs::path(path).replace_extension().generic_string(),
                                        path.generic_string());
  }

  fs::path root_;
  std::deque<fs::path> folders_;
  std::deque<fs::path> linked_folders_;
  std::set<std::pair<dev_t, ino_t>> visited_;
  FolderContent content_;
};

/// Returns, for example, "12 files of other types: 6 .avif, 3 .gif, 3 without an extension"; empty
/// if there are none.
std::string list_of_others(const FolderContent& content) {
  constexpr size_t kListedKinds = 5;
  std::vector<std::pair<int64_t, std::string>> kinds;
  int64_t total = 0;
  for (const auto& [extension, count] : content.other_kinds) {
    kinds.emplace_back(-count, extension.empty() ? "without an extension" : extension);
    total += count;
  }
  if (total == 0) return "";
  std::ranges::sort(kinds);  // by descending count
  std::string list;
  for (size_t i = 0; i < std::min(kinds.size(), kListedKinds); ++i)
    list += fmt::format("{} {} {}", i == 0 ? ":" : ",", -kinds[i].first, kinds[i].second);
  return fmt::format("{} files of other types{}{}", total, list,
                     kinds.size() > kListedKinds ? ", ..." : "");
}

void report_omissions(const fs::path& folder, const FolderContent& content) {
  const auto examples = [](const std::vector<std::string>& paths) {
    return paths.front() + (paths.size() == 1 ? "" : fmt::format(" and {} more", paths.size() - 1));
  };
  if (const std::string others = list_of_others(content); !others.empty())
    log_info("data: {}: ignored {}", folder.string(), others);
  if (!content.system_folders.empty())
    log_info("data: {}: ignored system folders: {}", folder.string(),
             examples(content.system_folders));
  if (!content.run_folders.empty())
    log_info("data: {}: ignored the output of training runs: {}", folder.string(),
             examples(content.run_folders));
  if (!content.forbidden_folders.empty())
    log_warning("data: {}: ignored subfolders without read permission: {}", folder.string(),
                examples(content.forbidden_folders));
}

std::string read_image_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error("{}: expected a file", path.string());  // reading a pipe would never end
  const uintmax_t bytes = fs::file_size(path, error);
  if (!error && bytes > kMaxImageFileBytes)
    throw Error("{}: has {} bytes, more than the limit of {} for an image", path.string(), bytes,
                kMaxImageFileBytes);
  return read_file(path);
}

}  // namespace

FolderDataset::FolderDataset(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  const fs::file_status status = fs::status(folder_, error);
  if (!fs::exists(status)) throw Error("{}: no such folder", folder_.string());
  if (!fs::is_directory(status))
    throw Error("{}: expected a folder of images, found a file", folder_.string());
  FolderContent content = ImageSearch(folder_).run();
  if (content.images.empty()) {
    const std::string others = list_of_others(content);
    throw Error("{}: no images in the folder, expected .jpg, .png, .webp or .bmp files{}{}{}",
                folder_.string(), others.empty() ? "" : "; found ", others,
                content.other_kinds.contains(".tar") ? "; for shards set data.kind=shards" : "");
  }
  report_omissions(folder_, content);
  keys_ = std::move(content.images);
  unusual_captions_ = std::move(content.unusual_captions);
}

RawSample FolderDataset::get(int64_t index) const {
  return {.key = key(index),
          .image = read_image_file(folder_ / key(index)),
          .captions = captions(index)};
}

std::string FolderDataset::key(int64_t index) const {
  DALLE_CHECK(index >= 0 && index < size());
  return keys_[index];
}

std::vector<std::string> FolderDataset::captions(int64_t index) const {
  fs::path file = (folder_ / key(index)).replace_extension(".txt");
  std::error_code error;  // any but "not found" also occurs in read_file(), which reports it
  if (fs::status(file, error).type() == fs::file_type::not_found) {
    const auto unusual =
        unusual_captions_.find(fs::path(key(index)).replace_extension().generic_string());
    if (unusual == unusual_captions_.end()) return {};
    file = folder_ / unusual->second;
  }
  const std::string text = read_file(file);
  return prefix_errors(file.string(), [&] { return parse_captions(text); });
}

std::string FolderDataset::missing_caption(int64_t index) const {
  const std::string file = fs::path(key(index)).filename().replace_extension(".txt").string();
  std::error_code error;
  const bool exists = fs::exists((folder_ / key(index)).replace_extension(".txt"), error);
  return exists ? fmt::format("its {} is blank", file) : fmt::format("no {} next to it", file);
}

}  // namespace dalle
