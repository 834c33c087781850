#include <string>
#include <vector>

#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "checks.h"
#include "subject.h"

namespace dalle {
namespace {

/// The loss before each update: [steps] float64.
at::Tensor loss_curve(const Subject& subject) {
  constexpr int kSteps = 30;
  SubjectTraining training(subject);
  std::vector<double> losses;
  for (int step = 0; step < kSteps; ++step) losses.push_back(training.step());
  return torch::tensor(losses, torch::kDouble);
}

CheckResult check_curve(MakeSubject make_subject, c10::Device device) {
  // Training amplifies rounding differences, but a wrong update deviates far more in a few steps.
  constexpr double kLimit = 5e-3, kMinDecrease = 0.05;
  const ExperimentConfig config = small_experiment();
  const at::Tensor found = loss_curve(make_subject(config, device));
  const at::Tensor expected = loss_curve(make_subject(config, at::kCPU));
  const double first = found[0].item<double>(), last = found[-1].item<double>();
  // Relative to the decrease of the loss, not to the loss, which may pass through zero.
  const double decrease = (expected[0] - expected[-1]).item<double>();
  const double error = ((found - expected).abs().max() / decrease).item<double>();
  const bool agrees = decrease > kMinDecrease && first - last > kMinDecrease && error <= kLimit;
  return {.outcome = agrees ? CheckOutcome::kPass : CheckOutcome::kFail,
          .found = fmt::format(
              "loss {:.4f} to {:.4f}, on the CPU to {:.4f}; largest error {:.1e} of the "
              "decrease ({:.0e})",
              first, last, expected[-1].item<double>(), error, kLimit),
          .numbers = {{"first_loss", first},
                      {"last_loss", last},
                      {"cpu_last_loss", expected[-1].item<double>()},
                      {"error", error},
                      {"limit", kLimit}}};
}

/// Enables deterministic algorithms, like exact training, until destroyed.
class DeterministicAlgorithms {
 public:
  DeterministicAlgorithms() { set(true); }
  ~DeterministicAlgorithms() { set(false); }
  DeterministicAlgorithms(const DeterministicAlgorithms&) = delete;
  DeterministicAlgorithms& operator=(const DeterministicAlgorithms&) = delete;

 private:
  static void set(bool enabled) {
    at::globalContext().setDeterministicCuDNN(enabled);
    at::globalContext().setDeterministicAlgorithms(enabled, /*warn_only=*/false);
  }
};

CheckResult check_determinism(MakeSubject make_subject, Precision precision, c10::Device device) {
  const DeterministicAlgorithms guard;
  ExperimentConfig config = small_experiment(precision);
  // A GPU needs enough work for its threads to run in varying orders.
  config.dvae.train.batch_size = config.dalle.train.batch_size = device.is_cuda() ? 32 : 1;
  const auto train = [&] {
    SubjectTraining training(make_subject(config, device));
    for (int step = 0; step < 3; ++step) training.step();
    return torch::cat({training.parameters().values(), training.parameters().gradients()});
  };
  const at::Tensor first = train(), second = train();
  const int64_t differing = first.ne(second).sum().item<int64_t>();
  return {.outcome = differing == 0 ? CheckOutcome::kPass : CheckOutcome::kFail,
          .found = fmt::format("{} of {} weights and gradients differ after three steps", differing,
                               first.numel()),
          .numbers = {{"differing", differing}, {"compared", first.numel()}}};
}

}  // namespace

std::vector<Check> training_checks(c10::Device device) {
  std::vector<Check> checks;
  for (const auto& [name, make_subject] :
       {std::pair<std::string, MakeSubject>{"dvae", dvae_subject},
        {"transformer", transformer_subject}}) {
    checks.push_back({fmt::format("training {}", name), [=, make_subject = make_subject] {
                        return check_curve(make_subject, device);
                      }});
    for (const auto& [precision, precision_name] : enum_names(Precision{}))
      checks.push_back({fmt::format("determinism {} {}", name, precision_name),
                        [=, make_subject = make_subject, precision = precision] {
                          return check_determinism(make_subject, precision, device);
                        }});
  }
  return checks;
}

}  // namespace dalle
