#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "model/dalle_model.h"

namespace dalle {

/// How well the tokens of one image or caption are predicted.
struct TokenScores {
  at::Tensor bits;  ///< [N] float64, -log2 of the probability of each token
  at::Tensor rank;  ///< [N] int64, how many other tokens are at least as likely
};

/// The scores of a caption's tokens, without padding, and of the tokens of its image.
struct SequenceScores {
  TokenScores text;
  TokenScores image;
};

/// @param states   [T + N, width], of DalleModelImpl::hidden_states()
/// @param caption  [T - 1] int64, padded with kPadToken
/// @param codes    [N] int64 in [0, K)
/// @throws dalle::Error if a logit is not finite
SequenceScores score_sequence(const DalleModel& model, const at::Tensor& states,
                              const at::Tensor& caption, const at::Tensor& codes);

/// The log-probability, in bits, of an image's tokens under each caption; that of the caption does
/// not count.
///
/// @param codes     [N] int64 in [0, K), on any device
/// @param captions  each [T - 1] int64, padded with kPadToken
/// @throws dalle::Error if a logit is not finite
std::vector<double> image_log_likelihoods(DalleModel& model, const at::Tensor& codes,
                                          const std::vector<at::Tensor>& captions);

}  // namespace dalle
