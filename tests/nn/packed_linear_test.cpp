#include "nn/packed_linear.h"

#include <atomic>
#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

struct Case {
  int64_t in, out;
};
constexpr Case kCases[] = {{1, 1}, {7, 5}, {16, 48}, {128, 384}, {129, 33}, {512, 160}};

/// The sum of PackedLinear as a loop: begins with the bias and runs over the inputs in order.
std::vector<double> plain_product(const at::Tensor& weight, const at::Tensor& bias,
                                  const at::Tensor& x) {
  std::vector<double> y;
  const auto w = weight.to(at::kDouble).contiguous(), v = x.to(at::kDouble).contiguous();
  for (int64_t row = 0; row < x.size(0); ++row)
    for (int64_t o = 0; o < weight.size(0); ++o) {
      double sum = bias.defined() ? bias[o].item<double>() : 0;
      for (int64_t i = 0; i < weight.size(1); ++i)
        sum += w.const_data_ptr<double>()[o * weight.size(1) + i] *
               v.const_data_ptr<double>()[row * weight.size(1) + i];
      y.push_back(sum);
    }
  return y;
}

at::Tensor multiply(const PackedLinear& linear, const at::Tensor& x,
                    std::optional<Activation> activation = std::nullopt) {
  const auto y = torch::full({x.size(0), linear.padded_out()}, NAN);
  linear.multiply(x.const_data_ptr<float>(), x.size(1), x.size(0), y.mutable_data_ptr<float>(),
                  activation);
  return y;
}

TEST(PackedLinear, SharesItsWorkAmongThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> sections = 0;
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) { ++sections; });
  at::set_num_threads(threads);
  EXPECT_EQ(sections, 2) << "at::parallel_for of this build is not parallel";
}

class PackedLinearOf : public ::testing::TestWithParam<const DecodeKernels*> {};

TEST_P(PackedLinearOf, EqualsALoopInFloat64) {
  torch::manual_seed(1);
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16})
    for (const auto [in, out] : kCases)
      for (const bool with_bias : {false, true}) {
        auto weight = torch::randn({out, in});
        if (precision == Precision::kBfloat16) weight = weight.to(at::kBFloat16).to(at::kFloat);
        const auto bias = with_bias ? torch::randn({out}) : at::Tensor();
        const PackedLinear linear(weight, bias, precision, *GetParam());
        EXPECT_EQ(linear.bytes(),
                  linear.padded_out() * in * (precision == Precision::kBfloat16 ? 2 : 4));
        for (const int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 32, 33}) {
          const auto x = torch::randn({rows, in});
          const auto y = multiply(linear, x);
          const auto expected = plain_product(weight, bias, x);
          const double tolerance = 1e-6 + 3e-7 * static_cast<double>(in);
          for (int64_t row = 0; row < rows; ++row)
            for (int64_t o = 0; o < linear.padded_out(); ++o)
              ASSERT_NEAR(y[row][o].item<double>(),
                          o < out ? expected[static_cast<size_t>(row * out + o)] : 0.0, tolerance)
                  << in << " x " << out << ", row " << row << " of " << rows << ", output " << o;
        }
      }
}

TEST_P(PackedLinearOf, GivesARowTheSameBitsAmongOthersAndForAnyNumberOfThreads) {
  torch::manual_seed(2);
  const int threads = at::get_num_threads();
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16})
    for (const auto [in, out] : kCases) {
      const PackedLinear linear(torch::randn({out, in}), torch::randn({out}), precision,
                                *GetParam());
      const auto x = torch::randn({32, in});
      const auto all = multiply(linear, x);
      for (const int set : {1, 2, 3}) {
        at::set_num_threads(set);
        for (int64_t rows = 1; rows < 32; ++rows)
          EXPECT_TRUE(
              torch::equal(multiply(linear, x.slice(0, 1, 1 + rows)), all.slice(0, 1, 1 + rows)))
              << in << " x " << out << ", " << rows << " rows, " << set << " threads";
      }
      at::set_num_threads(threads);
    }
}

TEST_P(PackedLinearOf, AppliesTheActivation) {
  const PackedLinear linear(torch::eye(64), at::Tensor(), Precision::kFloat32, *GetParam());
  const auto x =
      torch::cat({torch::linspace(-9, 9, 4 * 62),
                  torch::tensor({-200.F, -40.F, 0.F, 40.F, 200.F, -1e-8F, 1e-8F, 1e30F})})
          .view({4, 64});
  for (const auto& [activation, name] : enum_names(Activation{}))
    EXPECT_TRUE(
        torch::allclose(multiply(linear, x, activation), activate(activation, x), 2e-6, 2e-6))
        << name << (multiply(linear, x, activation) - activate(activation, x)).abs().max();
}

TEST_P(PackedLinearOf, LayerNormEqualsLibTorchs) {
  torch::manual_seed(3);
  for (const int64_t width : {1, 2, 8, 16, 31, 128, 200}) {
    const auto x = torch::randn({width}) * 3 + 5, gain = torch::randn({width}),
               bias = torch::randn({width});
    const auto y = torch::empty({width});
    GetParam()->layer_norm(x.const_data_ptr<float>(), gain.const_data_ptr<float>(),
                           bias.const_data_ptr<float>(), width, y.mutable_data_ptr<float>());
    EXPECT_TRUE(torch::allclose(y, at::layer_norm(x, {width}, gain, bias), 1e-5, 1e-5)) << width;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, PackedLinearOf,
                         ::testing::ValuesIn(supported_decode_kernels().begin(),
                                             supported_decode_kernels().end()),
                         [](const auto& kernels) { return std::string(kernels.param->name); });

}  // namespace
}  // namespace dalle
