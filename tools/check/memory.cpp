#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>
#ifdef DALLE_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

#include "checks.h"
#include "optim/ema.h"
#include "subject.h"

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

/// Trains like a stage, with everything that a stage keeps in addition to the model: the EMA and,
/// for the transformer, the dVAE.
CheckResult check_memory(MakeSubject make_subject, const ExperimentConfig& config,
                         c10::Device device) {
  constexpr double kMinRatio = 0.7, kMaxRatio = 1.5;
  const int64_t before = bytes_in_use(device).now;
  reset_peak(device);
  SubjectTraining training(make_subject(config, device));
  Ema ema(training.parameters().values(), all_of(training.parameters().values()));
  const MemoryEstimate& estimate = training.subject().memory;
  const DiscreteVae frozen = estimate.frozen_weights > 0 ? make_dvae(config, device) : nullptr;
  for (int step = 0; step < 2; ++step) {
    training.step();
    ema.update(training.parameters().values(), config.dalle.train.ema_decay);
  }
  const auto gigabytes = [](int64_t bytes) { return static_cast<double>(bytes) / 0x1p30; };
  const double peak = gigabytes(bytes_in_use(device).peak - before);
  const double expected = gigabytes(estimate.training());
  const double ratio = peak / expected;
  return {.outcome =
              ratio >= kMinRatio && ratio <= kMaxRatio ? CheckOutcome::kPass : CheckOutcome::kFail,
          .found = fmt::format("{:.2f} GiB, estimated {:.2f}: ratio {:.2f} ({} to {})", peak,
                               expected, ratio, kMinRatio, kMaxRatio),
          .numbers = {{"peak_gib", peak},
                      {"estimate_gib", expected},
                      {"ratio", ratio},
                      {"least_ratio", kMinRatio},
                      {"most_ratio", kMaxRatio}}};
}

}  // namespace

std::vector<Check> memory_checks(c10::Device device, const std::filesystem::path& configs) {
  const auto check = [=](const char* file, MakeSubject make_subject) {
    return [=]() -> CheckResult {
      if (!device.is_cuda())
        return {.outcome = CheckOutcome::kSkipped, .found = "memory is measured only on a GPU"};
      const std::array<std::string, 1> overrides{"data.path=none"};  // it is not read
      return check_memory(make_subject, load_experiment(configs / file, overrides), device);
    };
  };
  return {{"memory dvae 29M", check("dalle-350m.yaml", dvae_subject)},
          {"memory transformer 51M", check("dalle-50m.yaml", transformer_subject)}};
}

}  // namespace dalle
