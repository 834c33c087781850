#include "metrics/throughput.h"

#include <algorithm>
#include <chrono>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seconds.h"

namespace dalle {

double measure_matmul_flops(c10::Device device, Precision precision) {
  using Clock = std::chrono::steady_clock;
  const torch::NoGradGuard no_grad;
  const int64_t side = device.is_cuda() ? 8192 : 1024;
  const auto type = precision == Precision::kBfloat16 ? torch::kBFloat16 : torch::kFloat32;
  // Random, because on constant numbers a GPU needs less power and runs at a higher clock than in
  // training.
  const auto a = torch::rand({side, side}, at::make_generator<at::CPUGeneratorImpl>(1))
                     .to(torch::TensorOptions(device).dtype(type));
  const double flops =
      2.0 * static_cast<double>(side) * static_cast<double>(side) * static_cast<double>(side);
  // Copying one number to the host waits for the device to finish.
  const auto product = [&] { return a.matmul(a)[0][0].item<float>(); };
  product();
  double fastest_s = 1e30;
  const auto end = Clock::now() + std::chrono::milliseconds(500);
  while (Clock::now() < end) {
    const auto begin = Clock::now();
    product();
    fastest_s = std::min(fastest_s, seconds_since(begin));
  }
  return flops / fastest_s;
}

Throughput::Throughput(double flops_per_sample, double peak_flops)
    : flops_per_sample_(flops_per_sample), peak_flops_(peak_flops) {
  DALLE_CHECK(peak_flops > 0);
}

void Throughput::add(const Step& step) {
  ++steps_;
  sum_.samples += step.samples;
  sum_.tokens += step.tokens;
  sum_.step_s += step.step_s;
  sum_.data_wait_s += step.data_wait_s;
  sum_.rank_wait_s += step.rank_wait_s;
}

Throughput::Report Throughput::report() {
  Report report;
  if (steps_ > 0 && sum_.step_s > 0) {
    report.step_ms = 1e3 * sum_.step_s / static_cast<double>(steps_);
    report.compute_ms = report.step_ms - 1e3 * sum_.rank_wait_s / static_cast<double>(steps_);
    report.samples_per_s = static_cast<double>(sum_.samples) / sum_.step_s;
    report.tokens_per_s = static_cast<double>(sum_.tokens) / sum_.step_s;
    report.flops_per_s = report.samples_per_s * flops_per_sample_;
    report.matmul_utilization = report.flops_per_s / peak_flops_;
    report.data_wait_fraction = sum_.data_wait_s / sum_.step_s;
  }
  steps_ = 0;
  sum_ = {};
  return report;
}

}  // namespace dalle
