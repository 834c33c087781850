#include "sample/caption_images.h"

#include "core/error.h"

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

}  // namespace dalle
