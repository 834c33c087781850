#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dalle/data/dataset.h"

namespace dalle {

/// A folder of pictures, searched with all its subfolders, in the byte order of their relative
/// paths, which are also the keys.
///
/// The captions of `cats/tom.jpg` are the lines of `cats/tom.txt`; without that file it has none.
/// Links are followed, and a folder that is reached twice is read once, so that loops end and no
/// picture counts twice; names that begin with a dot are left out.
class FolderDataset final : public Dataset {
 public:
  /// @throws dalle::Error naming the folder if it is missing, no folder, unreadable, or holds no
  ///         picture
  explicit FolderDataset(std::filesystem::path folder);

  int64_t size() const override { return std::ssize(keys_); }
  /// @throws dalle::Error naming the file if the picture cannot be read or its captions are not
  ///         UTF-8
  Example get(int64_t index) const override;
  std::string key(int64_t index) const override;
  std::vector<std::string> captions(int64_t index) const override;
  std::string missing_caption(int64_t index) const override;

 private:
  std::filesystem::path folder_;
  std::vector<std::string> keys_;
};

}  // namespace dalle
