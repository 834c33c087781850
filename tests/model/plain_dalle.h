#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/fields.h"
#include "core/sequence_layout.h"
#include "model/transformer_config.h"
#include "nn/attention_mask.h"

namespace dalle {

/// The transformer and its loss, written from the paper's text and sharing only the attention mask
/// and the parameters with the model: the reference for its forward and backward passes.
struct PlainDalle {
  TransformerConfig config;
  SequenceLayout layout;
  std::map<std::string, at::Tensor> parameters;

  at::Tensor p(const std::string& name) const { return parameters.at(name); }

  at::Tensor normalised(const at::Tensor& x, const std::string& name) const {
    const auto centred = x - x.mean(-1, true);
    const auto stddev = (centred.square().mean(-1, true) + 1e-5).sqrt();
    return centred / stddev * p(name + ".gain") + p(name + ".bias");
  }

  at::Tensor linear(const at::Tensor& x, const std::string& name) const {
    return x.matmul(p(name + ".weight").t()) + p(name + ".bias");
  }

  at::Tensor attention(const at::Tensor& x, int64_t layer, const std::string& name) const {
    const auto mask = attention_mask(config.attention_of_layer(layer), layout, config.conv_kernel);
    const auto all = linear(x, name + ".query_key_value");
    const int64_t width = config.width, head_width = width / config.heads;
    std::vector<at::Tensor> heads;
    for (int64_t head = 0; head < config.heads; ++head) {
      const auto part = [&](int64_t which) {
        return all.narrow(-1, which * width + head * head_width, head_width);
      };
      const auto scores =
          part(0).matmul(part(1).transpose(-1, -2)) / std::sqrt(static_cast<double>(head_width));
      const auto weights =
          scores.exp() * mask;  // the scores are small, so there is no need to subtract the maximum
      heads.push_back((weights / weights.sum(-1, true)).matmul(part(2)));
    }
    return linear(torch::cat(heads, -1), name + ".output");
  }

  at::Tensor active(const at::Tensor& x) const {
    if (config.activation == Activation::kQuickGelu) return x / (1 + (-1.702 * x).exp());
    return 0.5 * x * (1 + (x / std::sqrt(2.0)).erf());
  }

  /// The states of one caption's tokens, without padding, and one image's codes: [length, width].
  at::Tensor states(const std::vector<int64_t>& tokens, const std::vector<int64_t>& codes) const {
    std::vector<at::Tensor> slots{p("start_of_text") + p("text_position")[0]};
    for (int64_t slot = 1; slot < layout.text_length; ++slot) {
      const auto index = static_cast<size_t>(slot - 1);
      slots.push_back(index < tokens.size()
                          ? p("text_embedding")[tokens[index]] + p("text_position")[slot]
                          : p("pad_embedding")[slot]);
    }
    for (int64_t slot = 0; slot < layout.image_length(); ++slot)
      slots.push_back((slot == 0 ? p("start_of_image")
                                 : p("image_embedding")[codes[static_cast<size_t>(slot - 1)]]) +
                      p("row_position")[slot / layout.grid_width] +
                      p("column_position")[slot % layout.grid_width]);
    auto x = torch::stack(slots);
    for (int64_t layer = 0; layer < config.depth; ++layer) {
      const std::string block = "block_" + std::to_string(layer + 1);
      x = x + attention(normalised(x, block + ".attention_norm"), layer, block + ".attention");
      const auto inner = active(linear(normalised(x, block + ".mlp_norm"), block + ".expand"));
      x = x + linear(inner, block + ".contract");
    }
    return normalised(x, "norm");
  }

  /// The loss of a batch; each of the two cross-entropies is a mean over all tokens.
  at::Tensor loss(const std::vector<std::vector<int64_t>>& captions,
                  const std::vector<std::vector<int64_t>>& codes) const {
    std::vector<at::Tensor> text, image;
    for (size_t b = 0; b < captions.size(); ++b) {
      const auto x = states(captions[b], codes[b]);
      const auto nats = [&](const std::string& head, int64_t slot, int64_t target) {
        const auto logits = p(head + ".weight").matmul(x[slot]);
        return logits.exp().sum().log() - logits[target];
      };
      for (size_t slot = 0; slot < captions[b].size(); ++slot)
        text.push_back(nats("text_head", static_cast<int64_t>(slot), captions[b][slot]));
      for (size_t slot = 0; slot < codes[b].size(); ++slot)
        image.push_back(
            nats("image_head", layout.text_length + static_cast<int64_t>(slot), codes[b][slot]));
    }
    return config.text_loss_weight * torch::stack(text).mean() +
           (1 - config.text_loss_weight) * torch::stack(image).mean();
  }
};

}  // namespace dalle
