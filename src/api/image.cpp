#include "dalle/image.h"

#include "core/error.h"
#include "core/files.h"
#include "data/image/image.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

RgbImage read_image(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);  // its errors already name the file
  return prefix_errors(path.string(), [&] { return decode_image(bytes); });
}

}  // namespace

at::Tensor load_image(const std::filesystem::path& path) {
  return image_to_tensor(read_image(path));
}

at::Tensor load_image(const std::filesystem::path& path, int64_t size) {
  if (size < 1) throw Error("{}: found size {}, expected at least 1", path.string(), size);
  const RgbImage image = read_image(path);
  return prefix_errors(path.string(), [&] { return image_to_tensor(center_crop(image, size)); });
}

void save_image(const at::Tensor& image, const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  const auto format = find_image_format(extension.empty() ? extension : extension.substr(1));
  if (!format) throw Error("{}: expected a name that ends in .png, .jpg or .webp", path.string());
  if (!image.defined() || image.dim() != 3 || image.size(0) != 3 || image.numel() == 0 ||
      !(image.scalar_type() == at::kByte || image.is_floating_point()))
    throw Error("{}: found {}, expected uint8 or floating point [3, height, width]", path.string(),
                describe_tensor(image));
  const std::string bytes = prefix_errors(
      path.string(), [&] { return encode_image(tensor_to_image(image.detach().cpu()), *format); });
  write_file_atomically(path, bytes);
}

}  // namespace dalle
