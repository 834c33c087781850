#include "nn/gpu/residual_norm.h"

#include <vector>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "nn/recompute.h"

namespace dalle {
namespace {

constexpr int64_t kNormWidth = 48;

/// What the kernels compute, by LibTorch's operations. `gradient_scale` other than 1 makes it
/// wrong.
class PlainKernels : public NormKernels {
 public:
  explicit PlainKernels(double gradient_scale = 1) : gradient_scale_(gradient_scale) {}

  void forward(const NormInputs& in, NormOutputs& out) const override {
    if (in.branch.defined()) out.total.copy_(in.x + in.branch.to(at::kFloat));
    const auto [normed, mean, rstd] =
        at::native_layer_norm(out.total, {out.total.size(-1)}, in.gain, in.bias, kNormEpsilon);
    out.normed.copy_(normed);
    out.mean.copy_(mean.squeeze(-1));
    out.rstd.copy_(rstd.squeeze(-1));
  }

  void backward(const NormOutputs& saved, const at::Tensor& gain, const at::Tensor& d_total,
                const at::Tensor& d_normed, NormGradients& gradients) const override {
    const auto hat = (saved.total - saved.mean.unsqueeze(-1)) * saved.rstd.unsqueeze(-1);
    const auto g = d_normed.to(at::kFloat), scaled = g * gain;
    gradients.x.copy_((scaled - scaled.mean(-1, true) - hat * (scaled * hat).mean(-1, true)) *
                          saved.rstd.unsqueeze(-1) * gradient_scale_ +
                      d_total);
    if (gradients.branch.defined()) gradients.branch.copy_(gradients.x);
    gradients.gain = (g * hat).flatten(0, -2).sum(0);
    gradients.bias = g.flatten(0, -2).sum(0);
  }

 private:
  double gradient_scale_;
};

/// total, normed, and the gradients of x, gain, bias and, if there is one, the branch.
std::vector<at::Tensor> results_of(const NormKernels* kernels, bool with_branch) {
  torch::manual_seed(1);
  const auto leaf = [](at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
    return torch::randn(sizes).to(type).requires_grad_();
  };
  std::vector<at::Tensor> inputs{leaf({2, 7, kNormWidth}), leaf({kNormWidth}), leaf({kNormWidth})};
  if (with_branch) inputs.push_back(leaf({2, 7, kNormWidth}, at::kBFloat16));
  const auto out = residual_norm({.x = inputs[0],
                                  .branch = with_branch ? inputs[3] : at::Tensor(),
                                  .gain = inputs[1],
                                  .bias = inputs[2]},
                                 kernels);
  const auto direction = torch::randn({2, 7, kNormWidth}), other = torch::randn({2, 7, kNormWidth});
  std::vector<at::Tensor> results{out.total, out.normed};
  const auto gradients = torch::autograd::grad({out.total, out.normed}, inputs,
                                               {direction, other.to(out.normed.scalar_type())});
  results.insert(results.end(), gradients.begin(), gradients.end());
  return results;
}

TEST(ResidualNorm, WithKernelsGivesTheResultsAndGradientsOfLibTorch) {
  const PlainKernels kernels;
  for (const bool with_branch : {false, true}) {
    const auto expected = results_of(nullptr, with_branch);
    const auto found = results_of(&kernels, with_branch);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_EQ(found[1].scalar_type(), at::kBFloat16);
    EXPECT_TRUE(torch::equal(found[0], expected[0]));
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_TRUE(torch::allclose(found[i].to(at::kFloat), expected[i].to(at::kFloat), 0.02, 0.05))
          << with_branch << " " << i;
  }
}

TEST(ResidualNorm, WithoutKernelsIsTheSumAndItsNormalization) {
  const auto x = torch::randn({3, kNormWidth}), branch = torch::randn({3, kNormWidth});
  const auto gain = torch::randn({kNormWidth}), bias = torch::randn({kNormWidth});
  const auto out = residual_norm({.x = x, .branch = branch, .gain = gain, .bias = bias}, nullptr);
  EXPECT_TRUE(torch::equal(out.total, x + branch));
  EXPECT_TRUE(torch::equal(out.normed, at::layer_norm(x + branch, {kNormWidth}, gain, bias)));
}

TEST(ResidualNorm, WithKernelsTakesTensorsThatAreNotContiguous) {
  const PlainKernels kernels;
  torch::manual_seed(2);
  const auto x = torch::randn({kNormWidth, 5}).t().requires_grad_();
  const auto branch = torch::randn({kNormWidth, 5}).t();
  const auto gain = torch::ones({kNormWidth}), bias = torch::zeros({kNormWidth});
  const auto direction = torch::randn({kNormWidth, 5}).t();
  const auto gradient_of = [&](const at::Tensor& input) {
    const auto out =
        residual_norm({.x = input, .branch = branch, .gain = gain, .bias = bias}, &kernels);
    return torch::autograd::grad({out.total + out.normed}, {x}, {direction})[0];
  };
  EXPECT_TRUE(torch::equal(gradient_of(x), gradient_of(x.contiguous())));
}

/// Without a branch, the sum is the input itself, which must stay part of the graph.
TEST(ResidualNorm, WithKernelsCanBeRecomputedAndRunWithoutGradients) {
  const PlainKernels kernels;
  torch::manual_seed(3);
  const auto x = torch::randn({4, kNormWidth}).requires_grad_();
  const auto gain = torch::ones({kNormWidth}).requires_grad_();
  const auto bias = torch::zeros({kNormWidth}).requires_grad_();
  const auto layer = [&](const at::Tensor& input) {
    const auto out =
        residual_norm({.x = input, .branch = {}, .gain = gain, .bias = bias}, &kernels);
    return out.total * 2 + out.normed;
  };
  const auto gradients_of = [&](const at::Tensor& y) {
    x.mutable_grad() = at::Tensor();
    y.square().sum().backward();
    return x.grad();
  };
  const auto plain = gradients_of(layer(x));
  EXPECT_TRUE(torch::equal(gradients_of(recompute(layer, x)), plain));
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(layer(x).requires_grad());
}

TEST(ResidualNorm, RejectsKernelsThatDisagreeWithLibTorch) {
  EXPECT_TRUE(agrees_with_layer_norm(PlainKernels(), kNormWidth, at::kCPU));
  EXPECT_FALSE(agrees_with_layer_norm(PlainKernels(1.1), kNormWidth, at::kCPU));
}

}  // namespace
}  // namespace dalle
