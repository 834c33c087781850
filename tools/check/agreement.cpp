#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "checks.h"
#include "nn/gumbel.h"
#include "sample/generate_codes.h"
#include "subject.h"
#include "tensor/seeded_uniform.h"

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
constexpr double kFloat32Limit = 3e-4;  // for other results

/// |found - expected| / |expected| in Euclidean norms, for tensors on any devices.
double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const auto a = found.detach().to(at::kCPU, at::kDouble);
  const auto b = expected.detach().to(at::kCPU, at::kDouble);
  const double difference = (a - b).norm().item<double>(), norm = b.norm().item<double>();
  return difference == 0 ? 0 : difference / norm;
}

/// A comparison with NaN is false, so NaN fails.
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
                               same_bits ? "the same" : "different", error, kLimit),
          .numbers = {{"same_bits", same_bits}, {"error", error}, {"limit", kLimit}}};
}

struct LossAndGradient {
  double loss = 0;
  at::Tensor gradient;                                         ///< [P] on the CPU
  std::vector<std::pair<std::string, at::Tensor>> parameters;  ///< its parts
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

/// Compares the device in the config's precision with the CPU in float32.
CheckResult check_gradients(MakeSubject make_subject, const ExperimentConfig& config,
                            const GradientLimits& limits, c10::Device device) {
  ExperimentConfig reference = config;
  reference.dvae.train.precision = reference.dalle.train.precision = Precision::kFloat32;
  if (reference.clip) reference.clip->train.precision = Precision::kFloat32;
  const LossAndGradient expected = differentiate(make_subject(reference, at::kCPU));
  const LossAndGradient found = differentiate(make_subject(config, device));
  const double loss = std::abs(found.loss / expected.loss - 1);
  const double full = relative_error(found.gradient, expected.gradient);
  std::vector<double> errors;
  for (size_t i = 0; i < expected.parameters.size(); ++i)
    errors.push_back(relative_error(found.parameters[i].second, expected.parameters[i].second));
  const auto [largest, index] =
      torch::tensor(errors, torch::kDouble).max(0);  // NaN counts as the largest
  const auto worst = largest.item<double>();
  const std::string& where = expected.parameters[static_cast<size_t>(index.item<int64_t>())].first;
  return {.outcome = pass_if(loss <= limits.loss && full <= limits.full && worst <= limits.worst),
          .found = fmt::format("loss {:.1e} ({:.0e}), gradient {:.1e} ({:.0e}), worst in {} {:.1e} "
                               "({:.0e})",
                               loss, limits.loss, full, limits.full, where, worst, limits.worst),
          .numbers = {{"loss", found.loss},
                      {"cpu_loss", expected.loss},
                      {"loss_error", loss},
                      {"loss_limit", limits.loss},
                      {"gradient_error", full},
                      {"gradient_limit", limits.full},
                      {"worst_parameter", where},
                      {"worst_error", worst},
                      {"worst_limit", limits.worst}}};
}

/// Compares cached decoding with the full forward pass on the device, in one model with all
/// attention kinds.
CheckResult check_decoding(Precision precision, c10::Device device) {
  const torch::NoGradGuard no_grad;
  ExperimentConfig config = small_experiment(precision);
  config.dalle.model.attention.clear();
  for (const auto& [kind, name] : enum_names(AttentionKind{}))
    config.dalle.model.attention.push_back(kind);
  config.dalle.model.depth = static_cast<int64_t>(config.dalle.model.attention.size()) + 1;
  DalleModel model = make_transformer(config, device);
  perturb_weights(*model);
  const auto [captions, codes] = random_sequences(config, 3, device);
  const int64_t text_length = config.dalle.model.text_length;
  const auto head = model->named_parameters()["image_head.weight"];
  const auto expected =
      model->hidden_states(captions, codes).slice(1, text_length).matmul(head.t());
  DecodeState state = model->prefill(captions);
  std::vector<at::Tensor> found;
  for (int64_t i = 0; i < codes.size(1); ++i)
    found.push_back(model->decode_step(state, codes.select(1, std::max(i - 1, 0L))));
  return within("logits", relative_error(torch::stack(found, 1), expected),
                precision == Precision::kBfloat16 ? 0.03 : kFloat32Limit);
}

/// Compares how several steps change the weights. A single step from zero moments would depend only
/// on the signs of the gradient.
CheckResult check_optimizer(OptimizerKind kind, c10::Device device) {
  const auto change_on = [&](c10::Device target) {
    const Subject subject = transformer_subject(small_experiment(), target);
    const FlatParameters parameters(*subject.module);
    const at::Tensor start = parameters.values().clone();
    Optimizer optimizer(parameters, kind, {.weight_decay = 0.01}, subject.uses_muon,
                        all_of(parameters.values()));
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(6);
    for (int step = 0; step < 3; ++step)
      optimizer.step(torch::randn(start.sizes(), generator).to(target), 1e-2);
    return parameters.values() - start;
  };
  return within("change of the weights", relative_error(change_on(device), change_on(at::kCPU)),
                kFloat32Limit);
}

CheckResult check_codes(c10::Device device) {
  const ExperimentConfig config = small_experiment();
  const auto codes_on = [&](c10::Device target) {
    DalleModel model = make_transformer(config, target);
    perturb_weights(*model);
    return generate_codes(
        model, {.caption = random_sequences(config, 1, at::kCPU).captions[0], .count = 12}, {},
        {.seed = 7});
  };
  const double share =
      codes_on(device).eq(codes_on(at::kCPU)).to(torch::kDouble).mean().item<double>();
  const double limit = device.is_cpu() ? 1.0 : 0.98;
  return {.outcome = pass_if(share >= limit),
          .found = fmt::format("{:.2f}% of the codes equal the CPU's ({:.0f}%)", 100 * share,
                               100 * limit),
          .numbers = {{"share", share}, {"limit", limit}}};
}

struct Variant {
  std::string name;
  TransformerConfig model;
};

/// Each attention kind by itself, recomputation, and an odd sequence length.
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
    const bool is_bfloat16 = precision == Precision::kBfloat16;
    const GradientLimits& dvae_limits = is_bfloat16 ? kDvaeBfloat16 : kDvaeFloat32;
    const GradientLimits& limits = is_bfloat16 ? kTransformerBfloat16 : kTransformerFloat32;
    const ExperimentConfig plain = small_experiment(precision);
    checks.push_back({fmt::format("dvae {}", precision_name),
                      [=] { return check_gradients(dvae_subject, plain, dvae_limits, device); }});
    const ExperimentConfig clip = small_clip_experiment(precision);
    checks.push_back({fmt::format("clip {}", precision_name),
                      [=] { return check_gradients(clip_subject, clip, limits, device); }});
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
  checks.push_back({"sampled codes", [=] { return check_codes(device); }});
  return checks;
}

}  // namespace dalle
