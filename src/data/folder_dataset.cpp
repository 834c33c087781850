#include "dalle/data/folder_dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <set>
#include <utility>

#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/data/captions.h"
#include "dalle/data/picture_file.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Walks a folder breadth first. Linked folders wait until all real ones are read, so a folder that
/// is there under both its own path and a link always keeps its own.
class PictureSearch {
 public:
  explicit PictureSearch(const fs::path& root) : root_(root) {}

  std::vector<std::string> run() {
    read_folder("");
    while (!folders_.empty() || !linked_folders_.empty()) {
      std::deque<fs::path>& next = folders_.empty() ? linked_folders_ : folders_;
      const fs::path folder = std::move(next.front());
      next.pop_front();
      read_folder(folder);
    }
    std::ranges::sort(pictures_);
    return std::move(pictures_);
  }

 private:
  /// True the first time, for folders are known by device and inode whatever their path.
  bool is_new(const fs::path& folder) {
    struct stat status = {};
    if (::stat(folder.c_str(), &status) != 0)
      throw Error("{}: cannot read the folder: {}", folder.string(), std::strerror(errno));
    return visited_.emplace(status.st_dev, status.st_ino).second;
  }

  void read_folder(const fs::path& relative) {
    const fs::path folder = root_ / relative;
    if (!is_new(folder)) return;
    std::error_code error;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error))
      entries.push_back(*entry);
    if (error) throw Error("{}: cannot read the folder: {}", folder.string(), error.message());
    std::ranges::sort(entries);
    for (const fs::directory_entry& entry : entries) sort_in(entry, relative);
  }

  void sort_in(const fs::directory_entry& entry, const fs::path& folder) {
    const fs::path name = entry.path().filename();
    if (name.native().starts_with('.')) return;
    std::error_code unreachable;  // a broken link, which get() will report if it names a picture
    const bool is_link = entry.is_symlink(unreachable);
    if (entry.is_directory(unreachable)) {
      (is_link ? linked_folders_ : folders_).push_back(folder / name);
      return;
    }
    const std::string extension = name.extension().string();
    if (extension.empty() || !is_picture_extension(extension.substr(1))) return;
    if (is_link || entry.is_regular_file(unreachable))
      pictures_.push_back((folder / name).generic_string());
  }

  fs::path root_;
  std::deque<fs::path> folders_;
  std::deque<fs::path> linked_folders_;
  std::set<std::pair<dev_t, ino_t>> visited_;
  std::vector<std::string> pictures_;
};

std::string read_picture_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error("{}: expected a file", path.string());  // a pipe would never end
  const uintmax_t bytes = fs::file_size(path, error);
  if (!error && bytes > kMaxPictureFileBytes)
    throw Error("{}: has {} bytes, more than the {} that are allowed for a picture", path.string(),
                bytes, kMaxPictureFileBytes);
  return read_file(path);
}

}  // namespace

FolderDataset::FolderDataset(fs::path folder) : folder_(std::move(folder)) {
  if (!fs::exists(folder_)) throw Error("{}: no such folder", folder_.string());
  if (!fs::is_directory(folder_))
    throw Error("{}: expected a folder of pictures, found a file", folder_.string());
  keys_ = PictureSearch(folder_).run();
  if (keys_.empty())
    throw Error("{}: no picture in the folder, looked for .jpg, .jpeg, .png, .webp and .bmp files",
                folder_.string());
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
  const fs::path file = (folder_ / key(index)).replace_extension(".txt");
  if (!fs::exists(file)) return {};
  const std::string text = read_file(file);
  try {
    return parse_captions(text);
  } catch (const Error& error) {
    throw Error("{}: {}", file.string(), error.what());
  }
}

std::string FolderDataset::missing_caption(int64_t index) const {
  const std::string file = fs::path(key(index)).filename().replace_extension(".txt").string();
  std::error_code error;
  const bool exists = fs::exists((folder_ / key(index)).replace_extension(".txt"), error);
  return exists ? fmt::format("its {} is blank", file) : fmt::format("no {} next to it", file);
}

}  // namespace dalle
