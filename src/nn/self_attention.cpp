#include "nn/self_attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/types.h>

#include "core/error.h"
#include "nn/gpu_kernels.h"
#include "tensor/put_at.h"

namespace dalle {
namespace {

const SelfAttentionOptions& checked(const SelfAttentionOptions& options) {
  if (options.heads < 1 || options.width % options.heads != 0)
    throw Error("attention heads: found {}, expected a divisor of the width {}", options.heads,
                options.width);
  return options;
}

}  // namespace

SelfAttentionImpl::SelfAttentionImpl(const SelfAttentionOptions& options)
    : options_(checked(options)),
      qkv_(register_module("query_key_value",
                           Linear(options.width, 3 * options.width, true, options.precision))),
      output_(register_module("output",
                              Linear(options.width, options.width, true, options.precision))) {}

void SelfAttentionImpl::initialize(at::Generator generator, double input_stddev,
                                   double output_stddev) {
  qkv_->initialize(generator, input_stddev);
  output_->initialize(generator, output_stddev);
}

at::Tensor SelfAttentionImpl::project(const at::Tensor& x) {
  return qkv_(x).view({x.size(0), x.size(1), 3, options_.heads, options_.width / options_.heads});
}

SelfAttentionImpl::Heads SelfAttentionImpl::heads_of(const at::Tensor& qkv) {
  // The backward pass of unbind, unlike that of three selects, writes one gradient.
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind();
  return {parts[0], parts[1], parts[2]};
}

at::Tensor SelfAttentionImpl::merge(const at::Tensor& attended) {
  return output_(attended.transpose(1, 2).flatten(2));  // [B, n, width]
}

at::Tensor SelfAttentionImpl::forward(const at::Tensor& x) {
  const auto qkv = project(x);
  const auto& pattern = options_.pattern;
  const bool is_masked = pattern != nullptr && pattern->kind() != AttentionKind::kDense;
  DALLE_CHECK(pattern == nullptr || x.size(1) == pattern->layout().length());
  if (const auto* kernels = is_masked ? find_attention_kernels(qkv) : nullptr) {
    const auto blocks = pattern->blocks(kernels->rows(), qkv.device());
    return output_(block_sparse_attention(*kernels, blocks, qkv).flatten(2));
  }
  const auto [query, key, value] = heads_of(qkv);
  if (!is_masked)
    return merge(at::scaled_dot_product_attention(query, key, value, {}, /*dropout_p=*/0.0,
                                                  /*is_causal=*/pattern != nullptr));
  if (const auto tiles = query.is_cpu() ? pattern->tiles() : nullptr)
    return merge(tiled_attention(tiles, query, key, value));
  return merge(at::scaled_dot_product_attention(query, key, value, pattern->additive_mask(query)));
}

at::Tensor SelfAttentionImpl::prefill(const at::Tensor& x, KvCache& cache) {
  DALLE_CHECK(options_.pattern != nullptr);
  DALLE_CHECK(x.size(1) == options_.pattern->layout().text_length);
  const auto [query, key, value] = heads_of(project(x));
  const std::vector<int64_t> sizes{x.size(0), options_.heads, options_.pattern->cache_cells(),
                                   key.size(3)};
  cache = {.keys = torch::zeros(sizes, key.options()),  // a mask would not hide NaN
           .values = torch::zeros(sizes, key.options())};
  cache.keys.narrow(2, 0, x.size(1)).copy_(key);
  cache.values.narrow(2, 0, x.size(1)).copy_(value);
  return merge(at::scaled_dot_product_attention(query, key, value, {}, /*dropout_p=*/0.0,
                                                /*is_causal=*/true));
}

at::Tensor SelfAttentionImpl::decode_step(const at::Tensor& x, const AttendedKeys& keys,
                                          KvCache& cache) {
  const auto [query, key, value] = heads_of(project(x));  // [B, heads, 1, head width]
  put_at(cache.keys, 2, keys.cell, key);
  put_at(cache.values, 2, keys.cell, value);
  const auto read = [&](const at::Tensor& cells) {
    return keys.cells.defined() ? cells.index_select(2, keys.cells) : cells;
  };
  return merge(
      at::scaled_dot_product_attention(query, read(cache.keys), read(cache.values), keys.mask));
}

}  // namespace dalle
