// Losses and gradients of the device, in every precision, compared with the CPU's in float32.

#include <cmath>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "experiment/config/experiment_config.h"
#include "measured_error.h"
#include "model/transformer_config.h"
#include "nn/attention_kind.h"
#include "optim/flat_parameters.h"
#include "subject.h"
#include "tensor/named_tensors.h"
#include "tensor/precision.h"
#include "test_device.h"

namespace dalle {
namespace {

/// Limits for the relative errors that rounding causes in a loss and its gradient.
struct GradientLimits {
  double loss = 0;
  double full = 0;   ///< of the gradient as one vector
  double worst = 0;  ///< of any parameter's gradient
};

// TF32, with its mantissa of ten bits, exceeds the limits for float32. The limits of the dVAE are
// wider: if rounding flips the sign of a ReLU's input or the argmax of a pool, which is frequent in
// bfloat16, the gradient takes a different path. A missing gradient has an error of 1, one with the
// wrong sign an error of 2.
constexpr GradientLimits kDvaeFloat32{.loss = 1e-4, .full = 3e-4, .worst = 3e-3};
constexpr GradientLimits kDvaeBfloat16{.loss = 0.02, .full = 0.1, .worst = 0.7};
constexpr GradientLimits kTransformerFloat32{.loss = 1e-5, .full = 1e-4, .worst = 3e-4};
constexpr GradientLimits kTransformerBfloat16{.loss = 5e-3, .full = 0.05, .worst = 0.1};

struct GradientCase {
  std::string name;
  MakeSubject make_subject = nullptr;
  Precision precision = Precision::kFloat32;
  TransformerConfig transformer;
  GradientLimits limits;
};

void PrintTo(const GradientCase& gradient_case, std::ostream* stream) {
  *stream << gradient_case.name;
}

/// Each attention kind by itself, recomputation, and an odd sequence length.
std::vector<std::pair<std::string, TransformerConfig>> transformer_variants() {
  const TransformerConfig plain = small_experiment().dalle.model;
  std::vector<std::pair<std::string, TransformerConfig>> variants;
  for (const auto& [kind, name] : enum_names(AttentionKind{})) {
    variants.emplace_back(name, plain);
    variants.back().second.attention = {kind};
    variants.back().second.last_attention = kind;
  }
  variants.emplace_back("recompute", plain);
  variants.back().second.recompute = true;
  variants.emplace_back("odd_length", plain);
  variants.back().second.text_length = 19;
  return variants;
}

std::vector<GradientCase> gradient_cases() {
  const TransformerConfig plain = small_experiment().dalle.model;
  std::vector<GradientCase> cases;
  for (const auto& [precision, name] : enum_names(Precision{})) {
    const bool is_bfloat16 = precision == Precision::kBfloat16;
    const GradientLimits& limits = is_bfloat16 ? kTransformerBfloat16 : kTransformerFloat32;
    cases.push_back({fmt::format("dvae_{}", name), dvae_subject, precision, plain,
                     is_bfloat16 ? kDvaeBfloat16 : kDvaeFloat32});
    cases.push_back({fmt::format("clip_{}", name), clip_subject, precision, plain, limits});
    for (const auto& [variant, model] : transformer_variants())
      cases.push_back({fmt::format("transformer_{}_{}", variant, name), transformer_subject,
                       precision, model, limits});
  }
  return cases;
}

struct LossAndGradient {
  double loss = 0;
  at::Tensor gradient;      ///< [P] on the CPU
  NamedTensors parameters;  ///< its parts
};

LossAndGradient differentiate(const Subject& subject) {
  perturb_weights(*subject.module);
  const FlatParameters parameters(*subject.module);
  const at::Tensor loss = subject.loss();
  loss.backward();
  const at::Tensor gradient = parameters.gradients().cpu();
  return {.loss = loss.item<double>(),
          .gradient = gradient,
          .parameters = parameters.named_views(gradient)};
}

class GradientTest : public testing::TestWithParam<GradientCase> {};

INSTANTIATE_TEST_SUITE_P(Models, GradientTest, testing::ValuesIn(gradient_cases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(GradientTest, IsThatOfTheCpuInFloat32) {
  ExperimentConfig reference = small_experiment(), config = small_experiment(GetParam().precision);
  reference.dalle.model = config.dalle.model = GetParam().transformer;
  const LossAndGradient expected = differentiate(GetParam().make_subject(reference, at::kCPU));
  const LossAndGradient found = differentiate(GetParam().make_subject(config, test_device()));
  const WorstParameter worst = worst_parameter(found.parameters, expected.parameters);
  const std::string where = fmt::format(", largest in {}", worst.name);
  RecordProperty("worst_parameter", worst.name);

  const GradientLimits& limits = GetParam().limits;
  expect_at_most("loss_error", std::abs(found.loss / expected.loss - 1), limits.loss);
  expect_at_most("gradient_error", relative_error(found.gradient, expected.gradient), limits.full,
                 where);
  expect_at_most("worst_error", worst.error, limits.worst, where);
}

}  // namespace
}  // namespace dalle
