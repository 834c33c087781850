#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "checks.h"
#include "core/machine.h"
#include "core/seconds.h"
#include "metrics/throughput.h"
#include "sample/generate_codes.h"
#include "subject.h"

namespace dalle {
namespace {

/// Mean duration of a call in seconds, after warm-up calls. The call must leave the device idle.
double seconds_of(const std::function<void()>& call, c10::Device device) {
  constexpr int kWarmUpCalls = 3, kMinCalls = 5;
  const double min_s = device.is_cuda() ? 2 : 0.3;
  for (int i = 0; i < kWarmUpCalls; ++i) call();
  const auto begin = std::chrono::steady_clock::now();
  int calls = 0;
  for (; calls < kMinCalls || seconds_since(begin) < min_s; ++calls) call();
  return seconds_since(begin) / calls;
}

/// Measures steps (forward, backward, optimizer) with the config's micro-batch.
CheckResult measure_training(const Subject& subject, c10::Device device, double matmul_flops) {
  SubjectTraining training(subject);
  const double step_s = seconds_of([&] { training.step(); }, device);
  const double samples_per_s = static_cast<double>(subject.batch) / step_s;
  const double flops = samples_per_s * subject.training_flops;
  return {
      .outcome = CheckOutcome::kMeasured,
      .found = fmt::format("{:.1f} ms per step of {}, {:.1f} samples/s, {:.2f} TFLOP/s, {:.1f}% "
                           "of the measured matmul rate {:.2f}",
                           1e3 * step_s, subject.batch, samples_per_s, flops / 1e12,
                           100 * flops / matmul_flops, matmul_flops / 1e12),
      .numbers = {{"step_ms", 1e3 * step_s},
                  {"batch", subject.batch},
                  {"parameters", training.parameters().values().numel()},
                  {"samples_per_s", samples_per_s},
                  {"tflops", flops / 1e12},
                  {"matrix_tflops", matmul_flops / 1e12},
                  {"share", flops / matmul_flops}}};
}

/// Measures the Gumbel noise, the part of a dVAE's step that is not a matrix product.
CheckResult measure_noise(const ExperimentConfig& config, c10::Device device) {
  const DiscreteVae vae = make_dvae(config, device);
  const std::vector<uint64_t> seeds(
      static_cast<size_t>(estimate_dvae_cost(config).micro_batch_size));
  const int64_t size = config.data.image_size;
  // item() waits for the device.
  const auto make_noise = [&] { vae->noise(seeds, size, size)[0][0][0][0].item<float>(); };
  const double ms = 1e3 * seconds_of(make_noise, device);
  return {.outcome = CheckOutcome::kMeasured,
          .found = fmt::format("{:.1f} ms for a step of {}", ms, seeds.size()),
          .numbers = {{"ms", ms}, {"batch", seeds.size()}}};
}

CheckResult measure_sampling(const ExperimentConfig& config, c10::Device device) {
  constexpr int64_t kImages = 12;
  const DalleModel model = make_transformer(config, device);
  const at::Tensor caption = random_sequences(config, 1, at::kCPU).captions[0];
  const auto begin = std::chrono::steady_clock::now();
  generate_codes(model, {.caption = caption, .count = kImages}, {}, {});
  const double seconds = seconds_since(begin);
  const double tokens = static_cast<double>(kImages * config.layout().image_length());
  return {.outcome = CheckOutcome::kMeasured,
          .found = fmt::format("{:.0f} tokens/s, {} images in {:.2f} s", tokens / seconds, kImages,
                               seconds),
          .numbers = {{"tokens_per_s", tokens / seconds}, {"seconds", seconds}}};
}

/// Skips a measurement that does not fit into this GPU, which is not an error.
CheckResult unless_out_of_memory(const std::function<CheckResult()>& measure) {
  try {
    return measure();
  } catch (const c10::OutOfMemoryError&) {
    return {.outcome = CheckOutcome::kSkipped, .found = "does not fit into memory"};
  }
}

using Measure = CheckResult (*)(const ExperimentConfig& config, c10::Device device,
                                double matmul_flops);

CheckResult dvae_training(const ExperimentConfig& config, c10::Device device, double matmul_flops) {
  return measure_training(dvae_subject(config, device), device, matmul_flops);
}

CheckResult transformer_training(const ExperimentConfig& config, c10::Device device,
                                 double matmul_flops) {
  return measure_training(transformer_subject(config, device), device, matmul_flops);
}

struct Case {
  std::string name;
  Measure measure;
  std::string file;  ///< empty: small_experiment()
};

std::vector<Case> cases(c10::Device device) {
  const Measure noise = [](const ExperimentConfig& config, c10::Device target, double) {
    return measure_noise(config, target);
  };
  const Measure sampling = [](const ExperimentConfig& config, c10::Device target, double) {
    return measure_sampling(config, target);
  };
  if (!device.is_cuda())
    return {{"dvae", dvae_training, ""},
            {"dvae noise", noise, ""},
            {"transformer", transformer_training, ""},
            {"sampling", sampling, ""}};
  return {{"dvae 64 px", dvae_training, "shapes-64.yaml"},
          {"dvae 256 px", dvae_training, "dalle-50m.yaml"},
          {"dvae 256 px noise", noise, "dalle-50m.yaml"},
          {"dalle-50m", transformer_training, "dalle-50m.yaml"},
          {"dalle-120m", transformer_training, "dalle-120m.yaml"},
          {"dalle-350m", transformer_training, "dalle-350m.yaml"},
          {"sampling dalle-50m", sampling, "dalle-50m.yaml"}};
}

ExperimentConfig config_of(const std::filesystem::path& configs, const std::string& file,
                           Precision precision) {
  if (file.empty()) return small_experiment(precision);
  const std::array<std::string, 1> overrides{"data.path=none"};  // it is not read
  ExperimentConfig config = load_experiment(configs / file, overrides);
  config.dvae.train.precision = config.dalle.train.precision = precision;
  return config;
}

}  // namespace

std::vector<Check> speed_checks(c10::Device device, const std::filesystem::path& configs) {
  std::vector<Check> checks;
  for (const auto& [precision, precision_name] : enum_names(Precision{})) {
    if (precision == Precision::kBfloat16 && device.is_cpu() && !this_processor().has_bf16_matmul)
      continue;
    const auto matmul_flops = std::make_shared<double>(0);  // measured once, by the first check
    for (const Case& each : cases(device)) {
      const auto measure = [=, precision = precision] {
        if (*matmul_flops == 0) *matmul_flops = measure_matmul_flops(device, precision);
        return each.measure(config_of(configs, each.file, precision), device, *matmul_flops);
      };
      checks.push_back({fmt::format("speed {} {}", each.name, precision_name),
                        [=] { return unless_out_of_memory(measure); }});
    }
  }
  return checks;
}

}  // namespace dalle
