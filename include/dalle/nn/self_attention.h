#pragma once

#include <cstdint>
#include <memory>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "dalle/nn/attention_pattern.h"
#include "dalle/nn/linear.h"
#include "dalle/nn/precision.h"

namespace dalle {

struct SelfAttentionOptions {
  int64_t width = 0;
  int64_t heads = 1;
  std::shared_ptr<AttentionPattern> pattern;  ///< shared by the layers of its kind
  Precision precision = Precision::kFloat32;
};

/// Keys and values of one layer while a sequence is drawn state by state.
struct KeyValueCache {
  at::Tensor keys;    ///< [B, heads, length, head width]; filled up to the state drawn last
  at::Tensor values;  ///< the same
};

/// Multi-head self-attention: text states see the text before them, image states all text and those
/// earlier image states that the layer's pattern names. One softmax over all of them. Source:
/// Ramesh et al. 2021, appendix B.1 and figure 11
class SelfAttentionImpl : public torch::nn::Module {
 public:
  /// @throws dalle::Error if heads does not divide width
  explicit SelfAttentionImpl(const SelfAttentionOptions& options);

  /// @param output_deviation  standard deviation of the output projection's weight
  void initialize(at::Generator generator, double input_deviation, double output_deviation);

  /// @param x  [B, length, width]
  /// @return   [B, length, width]
  at::Tensor forward(const at::Tensor& x);

  /// The same for the states [first, first + n) of a sequence whose earlier ones were given before.
  /// Reads only the keys that the pattern sees.
  ///
  /// @param x      [B, n, width]: all text states (first 0, n text_length), or one image state (n
  /// 1)
  /// @param cache  of the earlier states; an empty one is allocated
  /// @return       [B, n, width]
  at::Tensor forward_cached(const at::Tensor& x, int64_t first, KeyValueCache& cache);

 private:
  struct Heads {
    at::Tensor query, key, value;  ///< [B, heads, n, head width]
  };
  Heads heads_of(const at::Tensor& x);
  at::Tensor merge(const at::Tensor& attended);

  SelfAttentionOptions options_;
  Linear query_key_value_ = nullptr;
  Linear output_ = nullptr;
};
TORCH_MODULE(SelfAttention);

}  // namespace dalle
