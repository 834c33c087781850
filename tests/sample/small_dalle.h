#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "model/dalle_model.h"

namespace dalle {

inline constexpr SequenceLayout kLayout{.text_length = 4, .grid_height = 3, .grid_width = 3};

struct ModelOptions {
  int64_t width = 16;
  int64_t vocab = 20;
  Precision precision = Precision::kFloat32;
  std::vector<AttentionKind> attention = TransformerConfig().attention;
};

/// Untrained, but far from uniform.
inline DalleModel small_model(const ModelOptions& options = {}) {
  TransformerConfig config;
  config.depth = 2;
  config.heads = 2;
  config.width = options.width;
  config.text_length = kLayout.text_length;
  config.conv_kernel = 3;
  config.attention = options.attention;
  config.init = TransformerInit::kNormal002;
  DalleModel model(config, kLayout, 10, options.vocab, options.precision);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters())
    if (parameter.dim() == 2) parameter *= 15 * 4 / std::sqrt(static_cast<double>(options.width));
  model->eval();
  return model;
}

inline at::Tensor caption(int64_t first = 3) {
  return torch::tensor({first, int64_t{5}, kPadToken});
}

}  // namespace dalle
