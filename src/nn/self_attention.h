#pragma once

#include <cstdint>
#include <memory>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "nn/attention_pattern.h"
#include "nn/linear.h"
#include "tensor/precision.h"

namespace dalle {

struct SelfAttentionOptions {
  int64_t width = 0;
  int64_t heads = 1;
  /// Shared by all layers of its kind; null: all states attend to one another.
  std::shared_ptr<AttentionPattern> pattern;
  Precision precision = Precision::kFloat32;
};

/// The keys and values of one layer during decoding.
struct KvCache {
  at::Tensor keys;    ///< [B, heads, cells, head width]; 0 after the latest state
  at::Tensor values;  ///< likewise
};

/// Multi-head self-attention. Text states attend to the text before them; image states attend to
/// all text and to the earlier image states in the layer's pattern, with one softmax over both.
/// Without a pattern there is no mask, and sequences may have any length.
///
/// Source: Ramesh et al. 2021, appendix B.1 and figure 11
class SelfAttentionImpl : public torch::nn::Module {
 public:
  /// @throws dalle::Error if heads does not divide width
  explicit SelfAttentionImpl(const SelfAttentionOptions& options);

  /// @param output_stddev  standard deviation of the output projection's weight
  void initialize(at::Generator generator, double input_stddev, double output_stddev);

  /// @param x  [B, length, width]
  /// @return   [B, length, width]
  at::Tensor forward(const at::Tensor& x);

  /// forward() of the text states, which starts decoding. Requires a pattern.
  /// @param x      [B, text_length, width]
  /// @param cache  allocated, and filled with their keys and values
  /// @return       [B, text_length, width]
  at::Tensor prefill(const at::Tensor& x, KvCache& cache);

  /// forward() of the next image state, which reads only the keys that it attends to. No shape
  /// depends on its position, and nothing waits for the device.
  /// @param x      [B, 1, width]
  /// @param keys   of the pattern, with a mask of the queries' type
  /// @param cache  filled up to the state before; takes the state's key and value
  /// @return       [B, 1, width]
  at::Tensor decode_step(const at::Tensor& x, const AttendedKeys& keys, KvCache& cache);

 private:
  struct Heads {
    at::Tensor query, key, value;  ///< [B, heads, n, head width]
  };
  at::Tensor project(const at::Tensor& x);  ///< [B, n, 3, heads, head width]
  Heads heads_of(const at::Tensor& qkv);
  at::Tensor merge(const at::Tensor& attended);

  SelfAttentionOptions options_;
  Linear qkv_ = nullptr;
  Linear output_ = nullptr;
};
TORCH_MODULE(SelfAttention);

}  // namespace dalle
