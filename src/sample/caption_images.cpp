#include "sample/caption_images.h"

#include <algorithm>

#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"

namespace dalle {
namespace {

void check_tokens(const at::Tensor& tokens, int64_t length) {
  DALLE_CHECK(tokens.is_cpu() && tokens.scalar_type() == at::kLong && tokens.is_contiguous() &&
              tokens.dim() == 1 && tokens.numel() == length);
}

}  // namespace

void check_caption_images(const DalleModel& model, const CaptionImages& images) {
  const SequenceLayout& layout = model->layout();
  DALLE_CHECK(images.count > 0 && images.first_image >= 0);
  check_tokens(images.caption, layout.max_caption_tokens());
  DALLE_CHECK(images.variation >= 0 && images.variation <= 1);
  if (!images.forced.defined()) return;
  check_tokens(images.forced, layout.image_length());
  DALLE_CHECK(images.forced.ge(kFreeCode).all().item<bool>() &&
              images.forced.lt(model->image_vocab_size()).all().item<bool>());
}

std::vector<int64_t> forced_codes(const CaptionImages& request, int64_t image_length, uint64_t seed,
                                  int64_t image) {
  std::vector<int64_t> forced(static_cast<size_t>(image_length), kFreeCode);
  if (!request.forced.defined()) return forced;
  std::copy_n(request.forced.const_data_ptr<int64_t>(), image_length, forced.begin());
  for (size_t position = 0; position < forced.size(); ++position)
    if (to_unit(derive_seed(seed, SeedPurpose::kVariation, static_cast<uint64_t>(image),
                            position)) < request.variation)
      forced[position] = kFreeCode;
  return forced;
}

int64_t evaluated_positions(std::span<const int64_t> forced) {
  const auto last_free = std::find(forced.rbegin(), forced.rend(), kFreeCode);
  return std::max<int64_t>(1, forced.rend() - last_free);
}

at::Tensor preview_codes(std::vector<int64_t> codes, const SequenceLayout& layout) {
  DALLE_CHECK(static_cast<int64_t>(codes.size()) == layout.image_length());
  DALLE_CHECK(codes.front() != kFreeCode);
  const auto width = static_cast<size_t>(layout.grid_width);
  for (size_t p = 1; p < codes.size(); ++p)
    if (codes[p] == kFreeCode) codes[p] = codes[p < width ? p - 1 : p - width];
  return torch::tensor(codes, at::kLong).view({layout.grid_height, layout.grid_width});
}

}  // namespace dalle
