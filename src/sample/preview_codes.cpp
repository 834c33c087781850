#include "sample/preview_codes.h"

#include <torch/types.h>

#include "core/error.h"
#include "sample/caption_images.h"

namespace dalle {

at::Tensor preview_codes(std::vector<int64_t> codes, const SequenceLayout& layout) {
  DALLE_CHECK(static_cast<int64_t>(codes.size()) == layout.image_length());
  DALLE_CHECK(codes.front() != kFreeCode);
  const auto width = static_cast<size_t>(layout.grid_width);
  for (size_t p = 1; p < codes.size(); ++p)
    if (codes[p] == kFreeCode) codes[p] = codes[p < width ? p - 1 : p - width];
  return torch::tensor(codes, at::kLong).view({layout.grid_height, layout.grid_width});
}

}  // namespace dalle
