// A few training steps: the loss must fall as on the CPU, and bits must be reproducible.

#include <cstdint>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/Context.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/fields.h"
#include "enum_values.h"
#include "experiment/config/experiment_config.h"
#include "measured_error.h"
#include "optim/flat_parameters.h"
#include "subject.h"
#include "tensor/named_tensors.h"
#include "tensor/precision.h"
#include "test_device.h"

namespace dalle {
namespace {

struct TrainedModel {
  std::string name;
  MakeSubject make_subject = nullptr;
};

void PrintTo(const TrainedModel& model, std::ostream* stream) {
  *stream << model.name;
}

const auto kTrainedModels = testing::Values(TrainedModel{"dvae", dvae_subject},
                                            TrainedModel{"transformer", transformer_subject});

/// The loss before each update: [steps] float64.
at::Tensor loss_curve(const Subject& subject) {
  constexpr int kSteps = 30;
  SubjectTraining training(subject);
  std::vector<double> losses;
  for (int step = 0; step < kSteps; ++step) losses.push_back(training.step());
  return torch::tensor(losses, torch::kDouble);
}

class TrainingCurveTest : public testing::TestWithParam<TrainedModel> {};

INSTANTIATE_TEST_SUITE_P(Models, TrainingCurveTest, kTrainedModels,
                         [](const auto& test) { return test.param.name; });

TEST_P(TrainingCurveTest, FallsAsOnTheCpu) {
  // Training amplifies rounding differences, but a wrong update deviates far more in a few steps.
  constexpr double kLimit = 5e-3, kMinDecrease = 0.05;
  const ExperimentConfig config = small_experiment();
  const at::Tensor found = loss_curve(GetParam().make_subject(config, test_device()));
  const at::Tensor expected = loss_curve(GetParam().make_subject(config, at::kCPU));
  const auto decrease = (expected[0] - expected[-1]).item<double>();
  EXPECT_GT(decrease, kMinDecrease) << "on the CPU";
  EXPECT_GT((found[0] - found[-1]).item<double>(), kMinDecrease);
  // Relative to the decrease of the loss, not to the loss, which may pass through zero.
  const auto [largest, step] = (found - expected).abs().max(0);  // NaN counts as the largest
  expect_at_most("error", largest.item<double>() / decrease, kLimit,
                 fmt::format(" of the decrease, largest at step {}", step.item<int64_t>()));
}

/// Enables deterministic algorithms, like bitwise training, until destroyed.
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
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
};

/// The weights and gradients after three steps.
NamedTensors train_three_steps(const Subject& subject) {
  SubjectTraining training(subject);
  for (int step = 0; step < 3; ++step) training.step();
  const FlatParameters& parameters = training.parameters();
  NamedTensors tensors = parameters.named_views(parameters.values().clone());
  for (const auto& [name, gradient] : parameters.named_views(parameters.gradients().clone()))
    tensors.emplace_back("the gradient of " + name, gradient);
  return tensors;
}

class DeterminismTest : public testing::TestWithParam<std::tuple<TrainedModel, Precision>> {};

INSTANTIATE_TEST_SUITE_P(Models, DeterminismTest,
                         testing::Combine(kTrainedModels,
                                          testing::ValuesIn(enum_values<Precision>())),
                         [](const auto& test) {
                           return fmt::format("{}_{}", std::get<0>(test.param).name,
                                              to_string(std::get<1>(test.param)));
                         });

TEST_P(DeterminismTest, TheSameStepsGiveTheSameBits) {
  const DeterministicAlgorithms guard;
  const auto& [model, precision] = GetParam();
  ExperimentConfig config = small_experiment(precision);
  // A GPU needs enough work for its threads to run in varying orders.
  config.dvae.train.batch_size = config.dalle.train.batch_size = test_device().is_cuda() ? 32 : 1;
  const NamedTensors first = train_three_steps(model.make_subject(config, test_device()));
  const NamedTensors second = train_three_steps(model.make_subject(config, test_device()));
  int64_t differing = 0, most = 0;
  std::string worst;
  for (size_t i = 0; i < first.size(); ++i) {
    const auto here = first[i].second.ne(second[i].second).sum().item<int64_t>();
    differing += here;
    if (here > most) {
      most = here;
      worst = first[i].first;
    }
  }
  RecordProperty("differing", std::to_string(differing));
  EXPECT_EQ(differing, 0) << "weights and gradients differ, " << most << " of them in " << worst;
}

}  // namespace
}  // namespace dalle
