#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

/// The loss of a contrastive model; scalars.
struct ContrastiveLoss {
  at::Tensor total;          ///< [] mean of the next two, with gradient
  at::Tensor image_to_text;  ///< [] nats to select an image's caption among all captions
  at::Tensor text_to_image;  ///< [] nats to select a caption's image among all images
};

/// Cross-entropy of a batch's similarities, in both directions. A sample's target is its own
/// partner or, where several samples have the same label, uniform over them: a caption that occurs
/// twice describes both images equally well. Then the loss cannot be less than the entropy of the
/// targets.
///
/// Source: Radford et al. 2021, figure 3; with several partners, Yang et al. 2022, "Unified
/// contrastive learning in image-text-label space"
///
/// @param images, texts  [N, E], of unit length; row i of both belongs to sample i
/// @param scale          [] factor on the similarities
/// @param labels         [N] int64, equal for samples that are positives of one another; undefined:
///                       each sample has one positive
ContrastiveLoss contrastive_loss(const at::Tensor& images, const at::Tensor& texts,
                                 const at::Tensor& scale, const at::Tensor& labels = {});

}  // namespace dalle
