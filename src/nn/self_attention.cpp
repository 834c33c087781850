#include "dalle/nn/self_attention.h"

#include <limits>

#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/nn/attention_mask.h"

namespace dalle {
namespace {

const SelfAttentionOptions& checked(const SelfAttentionOptions& options) {
  if (options.heads < 1 || options.width % options.heads != 0)
    throw Error("dalle.model.heads: found {}, expected a divisor of the width {}", options.heads,
                options.width);
  return options;
}

at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  return at::scaled_dot_product_attention(query, key, value);
}

}  // namespace

SelfAttentionImpl::SelfAttentionImpl(const SelfAttentionOptions& options)
    : options_(checked(options)),
      distances_(attended_distances(options.kind, options.layout, options.conv_kernel)),
      query_key_value_(register_module(
          "query_key_value", Linear(options.width, 3 * options.width, true, options.precision))),
      output_(register_module("output",
                              Linear(options.width, options.width, true, options.precision))) {}

void SelfAttentionImpl::initialize(at::Generator generator, double input_deviation,
                                   double output_deviation) {
  query_key_value_->initialize(generator, input_deviation);
  output_->initialize(generator, output_deviation);
}

SelfAttentionImpl::Heads SelfAttentionImpl::heads_of(const at::Tensor& x) {
  const auto parts =
      query_key_value_(x)
          .view({x.size(0), x.size(1), 3, options_.heads, options_.width / options_.heads})
          .permute({2, 0, 3, 1, 4});  // [3, B, heads, n, head width]
  return {parts[0], parts[1], parts[2]};
}

at::Tensor SelfAttentionImpl::merge(const at::Tensor& attended) {
  return output_(attended.transpose(1, 2).flatten(2));  // [B, n, width]
}

/// The pattern as an additive mask, made once for each type and device.
const at::Tensor& SelfAttentionImpl::additive_mask(const at::Tensor& like) {
  if (!additive_mask_.defined() || additive_mask_.scalar_type() != like.scalar_type() ||
      additive_mask_.device() != like.device()) {
    const auto seen = attention_mask(options_.kind, options_.layout, options_.conv_kernel);
    additive_mask_ = torch::zeros(seen.sizes(), like.options().requires_grad(false))
                         .masked_fill_(seen.logical_not().to(like.device()),
                                       -std::numeric_limits<double>::infinity());
  }
  return additive_mask_;
}

at::Tensor SelfAttentionImpl::forward(const at::Tensor& x) {
  DALLE_CHECK(x.size(1) == options_.layout.length());
  const auto [query, key, value] = heads_of(x);
  if (options_.kind == AttentionKind::kDense)
    return merge(at::scaled_dot_product_attention(query, key, value, {}, /*dropout_p=*/0.0,
                                                  /*is_causal=*/true));
  return merge(at::scaled_dot_product_attention(query, key, value, additive_mask(query)));
}

at::Tensor SelfAttentionImpl::forward_cached(const at::Tensor& x, int64_t first,
                                             KeyValueCache& cache) {
  const auto [query, key, value] = heads_of(x);
  if (!cache.keys.defined()) {
    const std::vector<int64_t> sizes{x.size(0), options_.heads, options_.layout.length(),
                                     key.size(3)};
    cache.keys = torch::empty(sizes, key.options());
    cache.values = torch::empty(sizes, value.options());
  }
  cache.keys.narrow(2, first, x.size(1)).copy_(key);
  cache.values.narrow(2, first, x.size(1)).copy_(value);

  const int64_t text_length = options_.layout.text_length;
  if (first == 0) {
    DALLE_CHECK(x.size(1) == text_length);
    return merge(at::scaled_dot_product_attention(query, key, value, {}, /*dropout_p=*/0.0,
                                                  /*is_causal=*/true));
  }
  DALLE_CHECK(x.size(1) == 1 && first >= text_length);
  if (options_.kind == AttentionKind::kDense)
    return merge(
        attend(query, cache.keys.narrow(2, 0, first + 1), cache.values.narrow(2, 0, first + 1)));

  std::vector<int64_t> seen;  // all text, then the pattern's image states
  for (int64_t position = 0; position < text_length; ++position) seen.push_back(position);
  for (const int64_t distance : distances_)
    if (first - distance >= text_length) seen.push_back(first - distance);
  const auto positions = torch::tensor(seen, torch::kInt64).to(x.device());
  return merge(attend(query, cache.keys.index_select(2, positions),
                      cache.values.index_select(2, positions)));
}

}  // namespace dalle
