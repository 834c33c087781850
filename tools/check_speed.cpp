#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "dalle/core/machine.h"
#include "dalle/core/seconds.h"
#include "dalle/sample/image_generator.h"
#include "dalle/train/throughput.h"

#include "check_subject.h"
#include "checks.h"

namespace dalle {
namespace {

/// Seconds of a call, the mean of several after some to warm up. The device must be idle behind it.
double seconds_of(const std::function<void()>& call, c10::Device device) {
  constexpr int kWarmUp = 3, kLeastCalls = 5;
  const double least_s = device.is_cuda() ? 2 : 0.3;
  for (int i = 0; i < kWarmUp; ++i) call();
  const auto begin = std::chrono::steady_clock::now();
  int calls = 0;
  for (; calls < kLeastCalls || seconds_since(begin) < least_s; ++calls) call();
  return seconds_since(begin) / calls;
}

/// Steps with the config's own micro-batch: forward, backward, optimizer.
CheckResult measure_training(const Subject& subject, c10::Device device, double matrix_rate) {
  SubjectTraining training(subject);
  const double step_s = seconds_of([&] { training.step(); }, device);
  const double samples_per_s = static_cast<double>(subject.batch) / step_s;
  const double flops = samples_per_s * subject.training_flops;
  return {.outcome = CheckOutcome::kMeasured,
          .found = fmt::format("{:.1f} ms a step of {}, {:.1f} samples/s, {:.2f} TFLOP/s, {:.1f}% "
                               "of the matrix rate {:.2f}",
                               1e3 * step_s, subject.batch, samples_per_s, flops / 1e12,
                               100 * flops / matrix_rate, matrix_rate / 1e12),
          .numbers = {{"step_ms", 1e3 * step_s},
                      {"batch", subject.batch},
                      {"parameters", training.parameters().values().numel()},
                      {"samples_per_s", samples_per_s},
                      {"tflops", flops / 1e12},
                      {"matrix_tflops", matrix_rate / 1e12},
                      {"share", flops / matrix_rate}}};
}

/// The part of a dVAE's step that is no matrix product.
CheckResult measure_noise(const ExperimentConfig& config, c10::Device device) {
  const DiscreteVae vae = make_dvae(config, device);
  const std::vector<uint64_t> seeds(
      static_cast<size_t>(estimate_dvae_cost(config).micro_batch_size));
  const int64_t size = config.data.image_size;
  // Reading a number waits for the device.
  const auto draw = [&] { vae->noise(seeds, size, size)[0][0][0][0].item<float>(); };
  const double ms = 1e3 * seconds_of(draw, device);
  return {.outcome = CheckOutcome::kMeasured,
          .found = fmt::format("{:.1f} ms for a step of {}", ms, seeds.size()),
          .numbers = {{"ms", ms}, {"batch", seeds.size()}}};
}

CheckResult measure_sampling(const ExperimentConfig& config, c10::Device device) {
  constexpr int64_t kPictures = 12;  // are drawn at once
  const DalleModel model = make_transformer(config, device);
  const at::Tensor caption = random_sequences(config, 1, at::kCPU).captions[0];
  const auto begin = std::chrono::steady_clock::now();
  generate_codes(model, caption, {}, {.count = kPictures});
  const double seconds = seconds_since(begin);
  const double tokens = static_cast<double>(kPictures * config.layout().image_length());
  return {.outcome = CheckOutcome::kMeasured,
          .found = fmt::format("{:.0f} tokens/s, {} pictures in {:.2f} s", tokens / seconds,
                               kPictures, seconds),
          .numbers = {{"tokens_per_s", tokens / seconds}, {"seconds", seconds}}};
}

/// What does not fit into this GPU is none of its faults.
CheckResult unless_out_of_memory(const std::function<CheckResult()>& measure) {
  try {
    return measure();
  } catch (const c10::OutOfMemoryError&) {
    return {.outcome = CheckOutcome::kSkipped, .found = "does not fit into the memory"};
  }
}

using Measure = CheckResult (*)(const ExperimentConfig& config, c10::Device device,
                                double matrix_rate);

CheckResult dvae_training(const ExperimentConfig& config, c10::Device device, double matrix_rate) {
  return measure_training(dvae_subject(config, device), device, matrix_rate);
}

CheckResult transformer_training(const ExperimentConfig& config, c10::Device device,
                                 double matrix_rate) {
  return measure_training(transformer_subject(config, device), device, matrix_rate);
}

struct Case {
  std::string name;
  Measure measure;
  std::string file;  ///< empty: small_experiment()
};

std::vector<Case> cases(c10::Device device) {
  const Measure noise = [](const ExperimentConfig& config, c10::Device place, double) {
    return measure_noise(config, place);
  };
  const Measure sampling = [](const ExperimentConfig& config, c10::Device place, double) {
    return measure_sampling(config, place);
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
  const std::array<std::string, 1> overrides{"data.path=none"};  // is not read
  ExperimentConfig config = load_experiment(configs / file, overrides);
  config.dvae.train.precision = config.dalle.train.precision = precision;
  return config;
}

}  // namespace

std::vector<Check> speed_checks(c10::Device device, const std::filesystem::path& configs) {
  std::vector<Check> checks;
  for (const auto& [precision, precision_name] : enum_names(Precision{})) {
    if (precision == Precision::kBfloat16 && device.is_cpu() &&
        !this_processor().multiplies_bfloat16)
      continue;
    const auto matrix_rate = std::make_shared<double>(0);  // measured once, by the first of them
    for (const Case& each : cases(device)) {
      const auto measure = [=, precision = precision] {
        if (*matrix_rate == 0) *matrix_rate = measure_matrix_rate(device, precision);
        return each.measure(config_of(configs, each.file, precision), device, *matrix_rate);
      };
      checks.push_back({fmt::format("speed {} {}", each.name, precision_name),
                        [=] { return unless_out_of_memory(measure); }});
    }
  }
  return checks;
}

}  // namespace dalle
