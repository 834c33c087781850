#include "dalle/data/folder_dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "dalle/core/ascii.h"
#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/data/captions.h"
#include "dalle/data/picture_file.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Folders that hold no one's images: thumbnails, deleted files, snapshots and administration.
constexpr std::string_view kSystemFolders[] = {
    "@eaDir",    "@Recycle",     "@Recently-Snapshot",        "@tmp",       "#recycle",
    "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX",
    "CVS"};

/// What a search has found and left out. Paths are relative to the folder.
struct FolderContent {
  std::vector<std::string> images;
  std::map<std::string, std::string> unusual_captions;
  std::map<std::string, int64_t> other_kinds;  ///< number of files by extension, in lower case
  std::vector<std::string> system_folders;
  std::vector<std::string> run_folders;
  std::vector<std::string> forbidden_folders;
};

/// Walks a folder breadth first. Linked folders wait until all real ones are read, so a folder that
/// is there under both its own path and a link always keeps its own.
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
      // The images lie beside the run's own files.
      std::erase_if(entries, [](const fs::directory_entry& entry) {
        const fs::path name = entry.path().filename();
        return name == "samples" || name == "checkpoints" || name == "tensorboard";
      });
    }
    std::ranges::sort(entries);
    for (const fs::directory_entry& entry : entries) sort_in(entry, relative);
  }

  /// True the first time, for folders are known by device and inode whatever their path.
  bool is_new(const fs::path& folder, std::error_code& error) {
    struct stat status = {};
    if (::stat(folder.c_str(), &status) == 0)
      return visited_.emplace(status.st_dev, status.st_ino).second;
    error = {errno, std::generic_category()};
    return false;
  }

  /// By what dalle-train puts into a run's folder before it opens the data; a copy may lack one.
  static bool is_run_folder(const std::vector<fs::directory_entry>& entries) {
    return std::ranges::count_if(entries, [](const fs::directory_entry& entry) {
             const std::string& path = entry.path().native();
             return path.ends_with("/run.lock") || path.ends_with("/config.yaml") ||
                    path.ends_with("/versions.json");
           }) >= 2;
  }

  void sort_in(const fs::directory_entry& entry, const fs::path& folder) {
    const fs::path name = entry.path().filename();
    if (name.native().starts_with('.')) return;
    std::error_code unreachable;  // a broken link, which get() will report if it names an image
    const bool is_link = entry.is_symlink(unreachable);
    if (entry.is_directory(unreachable)) {
      if (std::ranges::find(kSystemFolders, name.native()) != std::end(kSystemFolders))
        content_.system_folders.push_back((folder / name).string());
      else
        (is_link ? linked_folders_ : folders_).push_back(folder / name);
      return;
    }
    if (!is_link && !entry.is_regular_file(unreachable)) return;
    const std::string extension = name.extension().string();
    const fs::path path = folder / name;
    if (!extension.empty() && is_picture_extension(extension.substr(1)))
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

/// Such as "12 files of other types: 6 .avif, 3 .gif, 3 without an extension"; empty: none.
std::string list_of_others(const FolderContent& content) {
  constexpr size_t kListedKinds = 5;
  std::vector<std::pair<int64_t, std::string>> kinds;
  int64_t total = 0;
  for (const auto& [extension, count] : content.other_kinds) {
    kinds.emplace_back(-count, extension.empty() ? "without an extension" : extension);
    total += count;
  }
  if (total == 0) return "";
  std::ranges::sort(kinds);  // the most frequent first
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
    log_warning("data: {}: ignored subfolders that this user cannot read: {}", folder.string(),
                examples(content.forbidden_folders));
}

std::string read_picture_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error("{}: expected a file", path.string());  // a pipe would never end
  const uintmax_t bytes = fs::file_size(path, error);
  if (!error && bytes > kMaxPictureFileBytes)
    throw Error("{}: has {} bytes, more than the {} allowed for an image", path.string(), bytes,
                kMaxPictureFileBytes);
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

Example FolderDataset::get(int64_t index) const {
  return {.key = key(index),
          .image = read_picture_file(folder_ / key(index)),
          .captions = captions(index)};
}

std::string FolderDataset::key(int64_t index) const {
  DALLE_CHECK(index >= 0 && index < size());
  return keys_[index];
}

std::vector<std::string> FolderDataset::captions(int64_t index) const {
  fs::path file = (folder_ / key(index)).replace_extension(".txt");
  std::error_code error;  // other than "there is none": read_file() meets it too, and reports it
  if (fs::status(file, error).type() == fs::file_type::not_found) {
    const auto unusual =
        unusual_captions_.find(fs::path(key(index)).replace_extension().generic_string());
    if (unusual == unusual_captions_.end()) return {};
    file = folder_ / unusual->second;
  }
  const std::string text = read_file(file);
  try {
    return parse_captions(text);
  } catch (const Error& error_in_text) {
    throw Error("{}: {}", file.string(), error_in_text.what());
  }
}

std::string FolderDataset::missing_caption(int64_t index) const {
  const std::string file = fs::path(key(index)).filename().replace_extension(".txt").string();
  std::error_code error;
  const bool exists = fs::exists((folder_ / key(index)).replace_extension(".txt"), error);
  return exists ? fmt::format("its {} is blank", file) : fmt::format("no {} next to it", file);
}

}  // namespace dalle
