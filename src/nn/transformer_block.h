#pragma once

#include <cmath>
#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "nn/activation.h"
#include "nn/gpu/residual_norm.h"
#include "nn/linear.h"
#include "nn/self_attention.h"

namespace dalle {

/// How weights are initialized: from N(0, scale² / fan-in) or N(0, scale²). Those at the end of a
/// residual branch are multiplied by residual_scale, and the two of the MLP by factors of their
/// own.
struct WeightInit {
  double scale = 1.0;
  bool by_fan_in = true;
  double residual_scale = 1.0;
  double expand_scale = 1.0;
  double contract_scale = 1.0;

  double stddev(int64_t fan_in) const {
    return by_fan_in ? scale / std::sqrt(static_cast<double>(fan_in)) : scale;
  }
};

/// Layer normalization over the last dimension, with a learned gain and bias.
class LayerNormImpl : public torch::nn::Module {
 public:
  explicit LayerNormImpl(int64_t width);

  /// Sets the gain to 1 and the bias to 0.
  void initialize();

  /// @param x  [..., width] in the parameters' type, which is also that of the statistics
  at::Tensor forward(const at::Tensor& x);

  /// The normalization of x + branch, and that sum; see residual_norm().
  /// @param branch  [..., width]; may be undefined
  ResidualNorm add_and_normalize(const at::Tensor& x, const at::Tensor& branch,
                                 const NormKernels* kernels);

 private:
  at::Tensor gain_;
  at::Tensor bias_;
};
TORCH_MODULE(LayerNorm);

struct TransformerBlockOptions {
  SelfAttentionOptions attention;
  Activation activation = Activation::kGelu;
  double dropout = 0.0;
};

/// Two normalizations (4d), queries, keys and values (3d^2 + 3d), projection (d^2 + d), and the MLP
/// (8d^2 + 5d).
constexpr int64_t transformer_block_parameters(int64_t width) {
  return 12 * width * width + 13 * width;
}

/// x + attention(norm(x)), then x + mlp(norm(x)). The residual stream stays in the parameters'
/// type.
///
/// Source: Child et al. 2019, equations 9 to 14, to which Ramesh et al. 2021, appendix B.1, refers
class TransformerBlockImpl : public torch::nn::Module {
 public:
  explicit TransformerBlockImpl(const TransformerBlockOptions& options);

  void initialize(at::Generator generator, const WeightInit& init);

  /// @param x             [B, length, width]
  /// @param dropout_seed  determines the dropout masks; used only in training with dropout
  at::Tensor forward(const at::Tensor& x, uint64_t dropout_seed);

  /// See SelfAttentionImpl::prefill(). Without dropout.
  at::Tensor prefill(const at::Tensor& x, KvCache& cache);

  /// See SelfAttentionImpl::decode_step(). Without dropout.
  at::Tensor decode_step(const at::Tensor& x, const AttendedKeys& keys, KvCache& cache);

 private:
  at::Tensor add_branches(const at::Tensor& x, const at::Tensor& attended);
  at::Tensor mlp(const at::Tensor& x);
  at::Tensor drop(const at::Tensor& branch, at::ScalarType type, uint64_t seed) const;

  TransformerBlockOptions options_;
  LayerNorm attention_norm_ = nullptr;
  SelfAttention attention_ = nullptr;
  LayerNorm mlp_norm_ = nullptr;
  Linear fc_in_ = nullptr;
  Linear fc_out_ = nullptr;
};
TORCH_MODULE(TransformerBlock);

}  // namespace dalle
