#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dalle {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// AdamW over one flat buffer, or over some spans of it, in one fused pass.
///
/// Decay is decoupled and scaled by the learning rate: w -= lr * (weight_decay * w + m / (sqrt(v) +
/// eps)), with m and v corrected for their start at zero. Source: Loshchilov and Hutter 2019,
/// "Decoupled weight decay regularization"
class AdamW {
 public:
  /// A part of the flat buffer.
  struct Span {
    int64_t begin;
    int64_t size;
  };

  /// @param values  [P] float32, the weights; updated in place by step()
  AdamW(at::Tensor values, const AdamWOptions& options);

  /// @param spans  what of the weights is updated, and no other
  AdamW(at::Tensor values, const AdamWOptions& options, std::vector<Span> spans);

  /// @param gradients  [P] float32, finite
  void step(const at::Tensor& gradients, double learning_rate);

  /// Updates made so far; the bias correction depends on it.
  int64_t updates() const;
  void set_updates(int64_t updates);

  /// [P] float32 running means of the gradient and of its square; save and restore them with
  /// updates().
  const at::Tensor& first_moment() const { return first_moment_; }
  const at::Tensor& second_moment() const { return second_moment_; }

 private:
  std::vector<at::Tensor> parts_of(const at::Tensor& flat) const;

  AdamWOptions options_;
  std::vector<Span> spans_;
  at::Tensor values_;
  at::Tensor first_moment_;
  at::Tensor second_moment_;
  at::Tensor updates_;  // [] float32, on the weights' device, as the fused kernel wants it
};

/// Euclidean norm of a flat gradient [P], accumulated in float64.
double gradient_norm(const at::Tensor& gradients);

}  // namespace dalle
