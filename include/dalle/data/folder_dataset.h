#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dalle/data/dataset.h"

namespace dalle {

/// A folder of images, searched with all its subfolders, in the byte order of their relative
/// paths, which are also the keys.
///
/// The captions of `cats/tom.jpg` are the lines of `cats/tom.txt`, or of `cats/tom.TXT` without
/// that; without either it has none. Links are followed, and a folder that is reached twice is read
/// once, so that loops end and no image counts twice.
///
/// Left out are names that begin with a dot, the folders that network storage and archives add
/// (`@eaDir`, `lost+found`, `__MACOSX` ...), run folders of `dalle-train`, and subfolders without
/// read permission. One line each in the log tells of these and of the number of files of other
/// kinds.
class FolderDataset final : public Dataset {
 public:
  /// @throws dalle::Error naming the folder if it is missing, no folder, unreadable, or holds no
  ///         image, and a subfolder that cannot be read for another reason than its permissions
  explicit FolderDataset(std::filesystem::path folder);

  int64_t size() const override { return std::ssize(keys_); }
  /// @throws dalle::Error naming the file if the image cannot be read or its captions are not
  ///         UTF-8
  Example get(int64_t index) const override;
  std::string key(int64_t index) const override;
  std::vector<std::string> captions(int64_t index) const override;
  std::string missing_caption(int64_t index) const override;

 private:
  std::filesystem::path folder_;
  std::vector<std::string> keys_;
  /// The caption files that end in other letters than ".txt", by the image's key without extension.
  std::map<std::string, std::string> unusual_captions_;
};

}  // namespace dalle
