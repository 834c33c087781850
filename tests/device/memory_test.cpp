// The peak memory of training steps on a GPU compared with the estimates of --dry-run.

#include <array>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#ifdef DALLE_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

#include "experiment/config/cost_estimate.h"
#include "experiment/config/experiment_config.h"
#include "experiment/config/load_experiment.h"
#include "model/discrete_vae.h"
#include "subject.h"
#include "tensor/flat_range.h"
#include "tensor/flat_state.h"
#include "test_device.h"

namespace dalle {
namespace {

/// Bytes allocated for tensors on a device: now, and at most since the last reset_peak(). Zero for
/// a CPU, where they are not counted.
struct BytesInUse {
  int64_t now = 0;
  int64_t peak = 0;
};

#ifdef DALLE_CUDA
BytesInUse bytes_in_use(c10::Device device) {
  using c10::CachingAllocator::StatType;
  const auto bytes = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index())
                         .allocated_bytes[static_cast<size_t>(StatType::AGGREGATE)];
  return {.now = bytes.current, .peak = bytes.peak};
}

void reset_peak(c10::Device device) {
  c10::cuda::CUDACachingAllocator::resetPeakStats(device.index());
}
#else
BytesInUse bytes_in_use(c10::Device) {
  return {};
}
void reset_peak(c10::Device) {}
#endif

double gibibytes(int64_t bytes) {
  return static_cast<double>(bytes) / 0x1p30;
}

struct MeasuredModel {
  std::string name;
  std::string file;  ///< its config
  MakeSubject make_subject = nullptr;
};

void PrintTo(const MeasuredModel& model, std::ostream* stream) {
  *stream << model.name;
}

class MemoryTest : public testing::TestWithParam<MeasuredModel> {};

INSTANTIATE_TEST_SUITE_P(Models, MemoryTest,
                         testing::Values(MeasuredModel{"dvae_29m", "configs/dalle-350m.yaml",
                                                       dvae_subject},
                                         MeasuredModel{"transformer_51m", "configs/dalle-50m.yaml",
                                                       transformer_subject}),
                         [](const auto& test) { return test.param.name; });

/// Trains like a stage, with everything that a stage keeps in addition to the model: the EMA and,
/// for the transformer, the dVAE.
TEST_P(MemoryTest, PeakIsNearTheEstimate) {
  const c10::Device device = test_device();
  if (!device.is_cuda()) GTEST_SKIP() << "memory is measured only on a GPU";
  constexpr double kMinRatio = 0.7, kMaxRatio = 1.5;
  const std::array<std::string, 1> overrides{"data.path=none"};  // it is not read
  const ExperimentConfig config = load_experiment(GetParam().file, overrides);
  at::globalContext().lazyInitDevice(device.type());
  const int64_t before = bytes_in_use(device).now;
  reset_peak(device);
  Subject subject = GetParam().make_subject(config, device);
  const MemoryEstimate estimate = subject.memory;
  SubjectTraining training(std::move(subject));
  const at::Tensor& values = training.parameters().values();
  FlatState ema(values, all_of(values));
  const DiscreteVae frozen = estimate.frozen_weights > 0 ? make_dvae(config, device) : nullptr;
  for (int step = 0; step < 2; ++step) {
    training.step();
    ema.lerp(values, 1 - config.dalle.train.ema_decay);
  }
  const double peak = gibibytes(bytes_in_use(device).peak - before);
  const double expected = gibibytes(estimate.training());
  RecordProperty("peak_gib", fmt::format("{:.3f}", peak));
  RecordProperty("estimate_gib", fmt::format("{:.3f}", expected));
  EXPECT_GE(peak, kMinRatio * expected) << "GiB; the estimate is " << expected;
  EXPECT_LE(peak, kMaxRatio * expected) << "GiB; the estimate is " << expected;
}

}  // namespace
}  // namespace dalle
