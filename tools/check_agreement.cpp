#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "dalle/nn/gumbel.h"
#include "dalle/nn/seeded_uniform.h"
#include "dalle/sample/image_generator.h"

#include "check_subject.h"
#include "checks.h"

namespace dalle {
namespace {

/// What rounding may do to a loss and its gradient, as relative errors.
struct GradientLimits {
  double loss = 0;
  double whole = 0;  ///< the gradient as one vector
  double worst = 0;  ///< of a parameter
};

// TF32, with its ten bits of mantissa, is above the limits of float32. The dVAE's are wider: where
// rounding moves a value over ReLU's corner, or makes another pixel the largest of its pool, the
// gradient takes another way, in bfloat16 often. A gradient that is missing is off by 1, one of the
// wrong sign by 2.
constexpr GradientLimits kDvaeFloat32{.loss = 1e-4, .whole = 3e-4, .worst = 3e-3};
constexpr GradientLimits kDvaeBfloat16{.loss = 0.02, .whole = 0.1, .worst = 0.7};
constexpr GradientLimits kTransformerFloat32{.loss = 1e-5, .whole = 1e-4, .worst = 3e-4};
constexpr GradientLimits kTransformerBfloat16{.loss = 5e-3, .whole = 0.05, .worst = 0.1};
constexpr double kFloat32Limit = 3e-4;  // of other results

/// Of tensors on any devices: |found - expected| / |expected|, Euclidean norms.
double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const auto a = found.detach().to(at::kCPU, at::kDouble);
  const auto b = expected.detach().to(at::kCPU, at::kDouble);
  const double difference = (a - b).norm().item<double>(), norm = b.norm().item<double>();
  return difference == 0 ? 0 : difference / norm;
}

/// Not-a-number is no pass.
CheckOutcome pass_if(bool holds) {
  return holds ? CheckOutcome::kPass : CheckOutcome::kFail;
}

CheckResult within(const std::string& what, double error, double limit) {
  return {.outcome = pass_if(error <= limit),
          .found = fmt::format("{} {:.1e} ({:.0e})", what, error, limit),
          .numbers = {{"error", error}, {"limit", limit}}};
}

CheckResult check_noise(c10::Device device) {
  const std::vector<uint64_t> seeds{1, 2, ~uint64_t{0}};
  const bool same_bits =
      torch::equal(seeded_uniform(seeds, 100'001, device).cpu(), seeded_uniform(seeds, 100'001));
  const double error =
      relative_error(gumbel_noise(seeds, {64, 16, 16}, device), gumbel_noise(seeds, {64, 16, 16}));
  constexpr double kLimit = 1e-6;
  return {.outcome = pass_if(same_bits && error <= kLimit),
          .found = fmt::format("uniform: {} bits, Gumbel {:.1e} ({:.0e})",
                               same_bits ? "the same" : "other", error, kLimit),
          .numbers = {{"same_bits", same_bits}, {"error", error}, {"limit", kLimit}}};
}

struct LossAndGradient {
  double loss = 0;
  at::Tensor gradient;                                         ///< [P] on the CPU
  std::vector<std::pair<std::string, at::Tensor>> parameters;  ///< its parts
};

LossAndGradient differentiate(const Subject& subject) {
  leave_initial_weights(*subject.module);
  const FlatParameters parameters(*subject.module);
  const at::Tensor loss = subject.loss();
  loss.backward();
  const at::Tensor gradient = parameters.gradients().cpu();
  return {.loss = loss.item<double>(),
          .gradient = gradient,
          .parameters = parameters.named_views(gradient)};
}

/// The device in the config's precision against the CPU in float32.
CheckResult check_gradients(MakeSubject make_subject, const ExperimentConfig& config,
                            const GradientLimits& limits, c10::Device device) {
  ExperimentConfig exact = config;
  exact.dvae.train.precision = exact.dalle.train.precision = Precision::kFloat32;
  const LossAndGradient expected = differentiate(make_subject(exact, at::kCPU));
  const LossAndGradient found = differentiate(make_subject(config, device));
  const double loss = std::abs(found.loss / expected.loss - 1);
  const double whole = relative_error(found.gradient, expected.gradient);
  std::vector<double> errors;
  for (size_t i = 0; i < expected.parameters.size(); ++i)
    errors.push_back(relative_error(found.parameters[i].second, expected.parameters[i].second));
  const auto [largest, place] = torch::tensor(errors, torch::kDouble).max(0);  // nan before all
  const auto worst = largest.item<double>();
  const std::string& where = expected.parameters[static_cast<size_t>(place.item<int64_t>())].first;
  return {.outcome = pass_if(loss <= limits.loss && whole <= limits.whole && worst <= limits.worst),
          .found = fmt::format("loss {:.1e} ({:.0e}), gradient {:.1e} ({:.0e}), of {} {:.1e} "
                               "({:.0e})",
                               loss, limits.loss, whole, limits.whole, where, worst, limits.worst),
          .numbers = {{"loss", found.loss},
                      {"cpu_loss", expected.loss},
                      {"loss_error", loss},
                      {"loss_limit", limits.loss},
                      {"gradient_error", whole},
                      {"gradient_limit", limits.whole},
                      {"worst_parameter", where},
                      {"worst_error", worst},
                      {"worst_limit", limits.worst}}};
}

/// All attention kinds in one model, token by token and at once, both on the device.
CheckResult check_decoding(Precision precision, c10::Device device) {
  const torch::NoGradGuard no_grad;
  ExperimentConfig config = small_experiment(precision);
  config.dalle.model.attention.clear();
  for (const auto& [kind, name] : enum_names(AttentionKind{}))
    config.dalle.model.attention.push_back(kind);
  config.dalle.model.depth = static_cast<int64_t>(config.dalle.model.attention.size()) + 1;
  DalleModel model = make_transformer(config, device);
  leave_initial_weights(*model);
  const auto [captions, codes] = random_sequences(config, 3, device);
  const int64_t text_length = config.dalle.model.text_length;
  const auto head = model->named_parameters()["image_head.weight"];
  const auto expected = model->states(captions, codes).slice(1, text_length).matmul(head.t());
  DecodingState state = model->read_captions(captions);
  std::vector<at::Tensor> found;
  for (int64_t slot = 0; slot < codes.size(1); ++slot)
    found.push_back(model->next_image_logits(state, codes.select(1, std::max(slot - 1, 0L))));
  return within("logits", relative_error(torch::stack(found, 1), expected),
                precision == Precision::kBfloat16 ? 0.03 : kFloat32Limit);
}

/// How some steps from zero moments change the weights; the first one alone would follow the
/// gradient's signs, whatever its size.
CheckResult check_optimizer(OptimizerKind kind, c10::Device device) {
  const auto change_on = [&](c10::Device place) {
    const Subject subject = transformer_subject(small_experiment(), place);
    const FlatParameters parameters(*subject.module);
    const at::Tensor start = parameters.values().clone();
    Optimizer optimizer(parameters, kind, {.weight_decay = 0.01}, subject.is_hidden_matrix);
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(6);
    for (int step = 0; step < 3; ++step)
      optimizer.step(torch::randn(start.sizes(), generator).to(place), 1e-2);
    return parameters.values() - start;
  };
  return within("change of the weights", relative_error(change_on(device), change_on(at::kCPU)),
                kFloat32Limit);
}

CheckResult check_codes(c10::Device device) {
  const ExperimentConfig config = small_experiment();
  const auto codes_on = [&](c10::Device place) {
    DalleModel model = make_transformer(config, place);
    leave_initial_weights(*model);
    return generate_codes(model, random_sequences(config, 1, at::kCPU).captions[0], {},
                          {.seed = 7, .count = 12});
  };
  const double share =
      codes_on(device).eq(codes_on(at::kCPU)).to(torch::kDouble).mean().item<double>();
  const double limit = device.is_cpu() ? 1.0 : 0.98;
  return {.outcome = pass_if(share >= limit),
          .found =
              fmt::format("{:.2f}% of the codes are the CPU's ({:.0f}%)", 100 * share, 100 * limit),
          .numbers = {{"share", share}, {"limit", limit}}};
}

struct Variant {
  std::string name;
  TransformerConfig model;
};

/// Each attention kind alone, recomputation, and a length that is no multiple of anything.
std::vector<Variant> transformer_variants() {
  const TransformerConfig plain = small_experiment().dalle.model;
  std::vector<Variant> variants;
  for (const auto& [kind, name] : enum_names(AttentionKind{})) {
    variants.push_back({std::string(name), plain});
    variants.back().model.attention = {kind};
    variants.back().model.last_attention = kind;
  }
  variants.push_back({"recompute", plain});
  variants.back().model.recompute = true;
  variants.push_back({"odd length", plain});
  variants.back().model.text_length = 19;
  return variants;
}

}  // namespace

std::vector<Check> agreement_checks(c10::Device device) {
  std::vector<Check> checks{{"noise", [=] { return check_noise(device); }}};
  for (const auto& [precision, precision_name] : enum_names(Precision{})) {
    const bool narrow = precision == Precision::kBfloat16;
    const GradientLimits& dvae_limits = narrow ? kDvaeBfloat16 : kDvaeFloat32;
    const GradientLimits& limits = narrow ? kTransformerBfloat16 : kTransformerFloat32;
    const ExperimentConfig plain = small_experiment(precision);
    checks.push_back({fmt::format("dvae {}", precision_name),
                      [=] { return check_gradients(dvae_subject, plain, dvae_limits, device); }});
    for (const Variant& variant : transformer_variants()) {
      ExperimentConfig config = plain;
      config.dalle.model = variant.model;
      checks.push_back({fmt::format("transformer {} {}", variant.name, precision_name), [=] {
                          return check_gradients(transformer_subject, config, limits, device);
                        }});
    }
    checks.push_back({fmt::format("decoding {}", precision_name),
                      [=, precision = precision] { return check_decoding(precision, device); }});
  }
  for (const auto& [kind, name] : enum_names(OptimizerKind{}))
    checks.push_back({fmt::format("optimizer {}", name),
                      [=, kind = kind] { return check_optimizer(kind, device); }});
  checks.push_back({"drawn codes", [=] { return check_codes(device); }});
  return checks;
}

}  // namespace dalle
