#include "nn/transformer_block.h"

#include <array>

#include <torch/types.h>

#include "core/seeds.h"
#include "nn/gpu_kernels.h"
#include "tensor/seeded_uniform.h"

namespace dalle {

LayerNormImpl::LayerNormImpl(int64_t width)
    : gain_(register_parameter("gain", torch::zeros({width}))),
      bias_(register_parameter("bias", torch::zeros({width}))) {}

void LayerNormImpl::initialize() {
  const torch::NoGradGuard no_grad;
  gain_.fill_(1.0);
  bias_.zero_();
}

at::Tensor LayerNormImpl::forward(const at::Tensor& x) {
  return at::layer_norm(x, gain_.sizes(), gain_, bias_);
}

ResidualNorm LayerNormImpl::add_and_normalize(const at::Tensor& x, const at::Tensor& branch,
                                              const NormKernels* kernels) {
  return residual_norm({.x = x, .branch = branch, .gain = gain_, .bias = bias_}, kernels);
}

TransformerBlockImpl::TransformerBlockImpl(const TransformerBlockOptions& options)
    : options_(options) {
  const int64_t width = options.attention.width;
  const Precision precision = options.attention.precision;
  attention_norm_ = register_module("attention_norm", LayerNorm(width));
  attention_ = register_module("attention", SelfAttention(options.attention));
  mlp_norm_ = register_module("mlp_norm", LayerNorm(width));
  fc_in_ = register_module("expand", Linear(width, 4 * width, true, precision));
  fc_out_ = register_module("contract", Linear(4 * width, width, true, precision));
}

void TransformerBlockImpl::initialize(at::Generator generator, const WeightInit& init) {
  const int64_t width = options_.attention.width;
  attention_norm_->initialize();
  attention_->initialize(generator, init.stddev(width), init.residual_scale * init.stddev(width));
  mlp_norm_->initialize();
  fc_in_->initialize(generator, init.expand_scale * init.stddev(width));
  fc_out_->initialize(generator,
                      init.residual_scale * init.contract_scale * init.stddev(4 * width));
}

at::Tensor TransformerBlockImpl::forward(const at::Tensor& x, uint64_t dropout_seed) {
  const auto* const kernels = find_norm_kernels(x, options_.attention.precision);
  const auto branch = [&](const at::Tensor& output, uint64_t number) {
    return drop(output, x.scalar_type(), mix_bits(dropout_seed + number));
  };
  const auto in = attention_norm_->add_and_normalize(x, {}, kernels);
  const auto h = mlp_norm_->add_and_normalize(in.total, branch(attention_(in.normed), 1), kernels);
  return h.total + branch(mlp(h.normed), 2);
}

at::Tensor TransformerBlockImpl::prefill(const at::Tensor& x, KvCache& cache) {
  return add_branches(x, attention_->prefill(attention_norm_(x), cache));
}

at::Tensor TransformerBlockImpl::decode_step(const at::Tensor& x, const AttendedKeys& keys,
                                             KvCache& cache) {
  return add_branches(x, attention_->decode_step(attention_norm_(x), keys, cache));
}

/// The output of a block for its input and what its attention gave.
at::Tensor TransformerBlockImpl::add_branches(const at::Tensor& x, const at::Tensor& attended) {
  const auto h = x + attended.to(x.scalar_type());
  return h + mlp(mlp_norm_(h)).to(x.scalar_type());
}

at::Tensor TransformerBlockImpl::mlp(const at::Tensor& x) {
  return fc_out_(activate(options_.activation, fc_in_(x)));
}

at::Tensor TransformerBlockImpl::drop(const at::Tensor& branch, at::ScalarType type,
                                      uint64_t seed) const {
  if (!is_training() || options_.dropout == 0) return branch;
  const std::array seeds{seed};
  const auto kept = seeded_uniform(seeds, branch.numel(), branch.device()).view(branch.sizes()) >=
                    options_.dropout;
  return branch.to(type) * kept / (1 - options_.dropout);
}

}  // namespace dalle
