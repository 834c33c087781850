#include "sample/grid_file.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dalle {

GridFile::GridFile(std::filesystem::path path) : path_(std::move(path)) {
  const std::string extension = path_.extension().string();
  const auto format = find_image_format(extension.substr(extension.empty() ? 0 : 1));
  if (!format)
    throw Error("{}: expected a file name that ends in .png, .jpg or .webp", path_.string());
  format_ = *format;
  if (path_.has_parent_path()) make_directories(path_.parent_path());
  check_can_write(path_);
}

void GridFile::allocate(int64_t rows, int64_t columns, int64_t image_size) {
  const ImageGridSize size = image_grid_size(rows * columns, columns, image_size, image_size);
  if (std::max(size.width, size.height) > longest_side(format_))
    throw Error(
        "{}: {} captions x {} images need {} x {} pixels, more than the {} per side that {} files "
        "can hold; use fewer images or another format",
        path_.string(), rows, columns, size.width, size.height, longest_side(format_),
        to_string(format_));
  grid_.emplace(rows * columns, columns, image_size, image_size);
}

void GridFile::write() const {
  write_file_atomically(path_, encode_image(grid_->image(), format_));
  log_info("{}", path_.string());
}

}  // namespace dalle
