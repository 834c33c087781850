#include "nn/contrastive_loss.h"

#include <torch/types.h>

namespace dalle {

ContrastiveLoss contrastive_loss(const at::Tensor& images, const at::Tensor& texts,
                                 const at::Tensor& scale, const at::Tensor& labels) {
  const auto logits = scale * at::matmul(images, texts.t());  // [N, N], row i: image i
  at::Tensor targets;  // [N, N], symmetric before its rows are divided by their sums
  if (labels.defined()) {
    const auto partners = labels.unsqueeze(1).eq(labels).to(logits.scalar_type());
    targets = partners / partners.sum(1, /*keepdim=*/true);
  }
  const auto loss_of = [&](const at::Tensor& rows) {
    const auto log_probabilities = rows.log_softmax(1);
    return targets.defined() ? -(targets * log_probabilities).sum(1).mean()
                             : -log_probabilities.diagonal().mean();
  };
  const auto image_to_text = loss_of(logits), text_to_image = loss_of(logits.t());
  return {.total = (image_to_text + text_to_image) / 2,
          .image_to_text = image_to_text.detach(),
          .text_to_image = text_to_image.detach()};
}

}  // namespace dalle
