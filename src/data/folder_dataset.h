#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace dalle {

/// The images of a folder and all its subfolders. The keys are the relative paths, and the samples
/// are sorted by key.
///
/// The captions of `cats/tom.jpg` are the lines of `cats/tom.txt` or, if that does not exist, of
/// `cats/tom.TXT`; an image without either has no captions. Symbolic links are followed. A folder
/// that is reached twice is read once, so that loops end and no image occurs twice.
///
/// Ignores names that begin with a dot, folders that storage systems and archives add (`@eaDir`,
/// `lost+found`, `__MACOSX` ...), run folders of `dalle-train` and subfolders without read
/// permission. The log names what was ignored, and the number of files of other types.
class FolderDataset final : public Dataset {
 public:
  /// @throws dalle::Error naming the folder if it is missing, not a folder, unreadable or without
  ///         images, or naming a subfolder that cannot be read for a reason other than permissions
  explicit FolderDataset(std::filesystem::path folder);

  int64_t size() const override { return std::ssize(keys_); }
  /// @throws dalle::Error naming the file if the image cannot be read or the captions are not UTF-8
  RawSample get(int64_t index) const override;
  std::string key(int64_t index) const override;
  std::vector<std::string> captions(int64_t index) const override;
  std::string missing_caption(int64_t index) const override;

 private:
  std::filesystem::path folder_;
  std::vector<std::string> keys_;
  /// Caption files with an extension like ".TXT", by the key of the image without its extension.
  std::map<std::string, std::string> unusual_captions_;
};

}  // namespace dalle
