#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include <fmt/format.h>
#include <torch/types.h>

#include "model/discrete_vae.h"

namespace dalle {

/// The dVAE, written again from the published tables as functions of named tensors: no modules,
/// convolutions as matrix products over unfolded windows, one-hot codes, upsampling where the
/// tables have it, sums where the paper has sums. It is slow and serves as a reference for the
/// module.
struct PlainDiscreteVae {
  std::map<std::string, at::Tensor> weights;
  int64_t groups = 0;
  int64_t blocks_per_group = 0;
  double post_gain = 0.0;

  at::Tensor convolution(const std::string& name, const at::Tensor& x) const {
    const auto& w = weights.at(name + ".w");
    const int64_t kernel = w.size(2);
    const auto windows = at::im2col(x, {kernel, kernel}, /*dilation=*/{1, 1},
                                    {(kernel - 1) / 2, (kernel - 1) / 2}, /*stride=*/{1, 1});
    const auto y = at::matmul(w.flatten(1), windows) + weights.at(name + ".b").unsqueeze(1);
    return y.view({x.size(0), w.size(0), x.size(2), x.size(3)});
  }

  at::Tensor block(const std::string& name, const at::Tensor& x) const {
    auto y = x;
    for (int64_t i = 1; i <= 4; ++i)
      y = convolution(fmt::format("{}.res_path.conv_{}", name, i), y.clamp_min(0));
    const bool changes_width = weights.contains(name + ".id_path.w");
    return (changes_width ? convolution(name + ".id_path", x) : x) + post_gain * y;
  }

  at::Tensor logits(const at::Tensor& images) const {
    auto x = convolution("encoder.blocks.input", 0.8 * images + 0.1);
    for (int64_t g = 1; g <= groups; ++g) {
      for (int64_t b = 1; b <= blocks_per_group; ++b)
        x = block(fmt::format("encoder.blocks.group_{}.block_{}", g, b), x);
      if (g < groups) x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax({4, 5});
    }
    return convolution("encoder.blocks.output.conv", x.clamp_min(0));
  }

  /// The six output maps: the means of red, green and blue, then ln b of each.
  at::Tensor decode(const at::Tensor& code_weights) const {
    auto x = convolution("decoder.blocks.input", code_weights);
    for (int64_t g = 1; g <= groups; ++g) {
      for (int64_t b = 1; b <= blocks_per_group; ++b)
        x = block(fmt::format("decoder.blocks.group_{}.block_{}", g, b), x);
      if (g < groups) x = x.repeat_interleave(2, 2).repeat_interleave(2, 3);
    }
    return convolution("decoder.blocks.output.conv", x.clamp_min(0));
  }

  at::Tensor image(const at::Tensor& code_weights) const {
    const auto mapped = 1 / (1 + decode(code_weights).slice(1, 0, 3).neg().exp());
    return ((mapped - 0.1) / 0.8).clamp(0, 1);
  }

  at::Tensor loss(const at::Tensor& images, const at::Tensor& noise, double temperature,
                  double kl_weight) const {
    const auto plain = logits(images);
    const auto maps = decode(((plain + noise) / temperature).softmax(1));
    const auto mean = maps.slice(1, 0, 3);
    const auto scale = maps.slice(1, 3, 6).exp();
    const auto x = 0.8 * images + 0.1;
    const auto log_density =
        -(2 * scale).log() - (x * (1 - x)).log() - ((x / (1 - x)).log() - mean).abs() / scale;
    const auto q = plain.softmax(1);
    const int64_t positions = q.numel() / q.size(1);
    const auto kl = (q * q.log()).sum() + positions * std::log(q.size(1));
    return (-log_density.sum() + kl_weight * kl) / images.numel();
  }
};

/// The same dVAE with copies of its weights.
inline PlainDiscreteVae plain_copy(const DiscreteVae& vae) {
  const DiscreteVaeConfig& config = vae->config();
  PlainDiscreteVae plain{.weights = {},
                         .groups = config.groups,
                         .blocks_per_group = config.blocks_per_group,
                         .post_gain = 0.0};
  plain.post_gain = config.post_gain.value_or(
      std::pow(static_cast<double>(config.groups * config.blocks_per_group), -2.0));
  for (const auto& parameter : vae->named_parameters())
    plain.weights[parameter.key()] = parameter.value().detach().clone().requires_grad_();
  return plain;
}

}  // namespace dalle
