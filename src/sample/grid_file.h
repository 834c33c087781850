#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "data/image/image.h"
#include "data/image/image_grid.h"
#include "data/image/rgb_image.h"

namespace dalle {

/// A file that will hold a grid of images. Detects what would prevent writing it before the first
/// image is generated.
class GridFile {
 public:
  /// @throws dalle::Error if the extension is unknown or the file cannot be written
  explicit GridFile(std::filesystem::path path);

  /// @throws dalle::Error if the format cannot hold that many images
  void allocate(int64_t rows, int64_t columns, int64_t image_size);

  void place(int64_t number, const RgbImage& image) { grid_->place(number, image); }

  /// @throws dalle::Error naming the file and the reason (disk full)
  void write() const;

 private:
  std::filesystem::path path_;
  ImageFormat format_ = ImageFormat::kPng;
  std::optional<ImageGrid> grid_;
};

}  // namespace dalle
