#include "optim/flat_parameters.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

/// y = w2 (w1 x + b), with sizes that are not multiples of the alignment.
struct TwoLayers : torch::nn::Module {
  TwoLayers() {
    w1 = register_parameter("w1", torch::randn({5, 3}));
    b = register_parameter("b", torch::randn({5}));
    w2 = register_parameter("w2", torch::randn({7, 5}));
  }
  at::Tensor forward(const at::Tensor& x) { return w2.matmul(w1.matmul(x) + b); }
  at::Tensor w1, b, w2;
};

TEST(FlatParameters, KeepTheValuesOfTheModule) {
  torch::manual_seed(1);
  TwoLayers module;
  const auto x = torch::randn({3});
  const auto before = module.forward(x).detach();
  const FlatParameters flat(module);
  EXPECT_TRUE(torch::equal(module.forward(x), before));
}

TEST(FlatParameters, AreUsedByTheModule) {
  TwoLayers module;
  const FlatParameters flat(module);
  {
    const torch::NoGradGuard no_grad;
    flat.values().fill_(1.0);
  }
  EXPECT_TRUE(torch::equal(module.w1, torch::ones({5, 3})));  // the module's own handle changes too
  EXPECT_TRUE(torch::equal(module.forward(torch::ones({3})), torch::full({7}, 20.0)));
}

TEST(FlatParameters, AreAlignedToCacheLines) {
  TwoLayers module;
  const FlatParameters flat(module);
  for (const auto& [name, view] : flat.named_views(flat.values()))
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data_ptr()) % 64, 0u) << name;
  EXPECT_EQ(flat.values().numel() % 16, 0);
}

TEST(FlatParameters, AccumulateGradientsOverSeveralBackwardPasses) {
  torch::manual_seed(2);
  TwoLayers module, reference;
  for (size_t i = 0; i < module.parameters().size(); ++i)
    reference.parameters()[i].set_data(module.parameters()[i].detach().clone());
  FlatParameters flat(module);
  for (int pass = 0; pass < 3; ++pass) {
    const auto x = torch::randn({3});
    module.forward(x).square().sum().backward();
    reference.forward(x).square().sum().backward();
  }
  for (const auto& [name, view] : flat.named_views(flat.gradients()))
    EXPECT_TRUE(torch::equal(view, reference.named_parameters()[name].grad())) << name;
  flat.zero_gradients();
  EXPECT_EQ(module.w1.grad().abs().sum().item<float>(), 0.0F);
  module.forward(torch::ones({3})).sum().backward();  // the views still exist
  EXPECT_GT(flat.gradients().abs().sum().item<float>(), 0.0F);
}

TEST(FlatParameters, BoundValuesLastAsLongAsTheGuard) {
  TwoLayers module;
  FlatParameters flat(module);
  const auto own = module.w1.detach().clone();
  {
    const FlatParameters::BoundValues bound(flat, torch::zeros_like(flat.values()));
    EXPECT_EQ(module.w1.abs().sum().item<float>(), 0.0F);
  }
  EXPECT_TRUE(torch::equal(module.w1, own));
  module.forward(torch::ones({3})).sum().backward();
  EXPECT_GT(flat.gradients().abs().sum().item<float>(), 0.0F);
}

TEST(FlatParameters, NameTheFirstNonFiniteTensor) {
  TwoLayers module;
  FlatParameters flat(module);
  EXPECT_EQ(flat.first_non_finite(flat.gradients()), "");
  flat.named_views(flat.gradients())[2].second[6][4] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(flat.first_non_finite(flat.gradients()), "w2");
  flat.named_views(flat.gradients())[1].second[0] = std::nanf("");
  EXPECT_EQ(flat.first_non_finite(flat.gradients()), "b");
}

TEST(FlatParameters, RejectModulesTheyCannotHold) {
  struct Empty : torch::nn::Module {
  } empty;
  EXPECT_THROW(FlatParameters{empty}, Error);
  struct Mixed : torch::nn::Module {
    Mixed() {
      register_parameter("a", torch::zeros({2}));
      register_parameter("b", torch::zeros({2}, torch::kDouble));
    }
  } mixed;
  EXPECT_THROW(FlatParameters{mixed}, Error);
}

}  // namespace
}  // namespace dalle
