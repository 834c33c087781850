#include "train/training_report.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/seconds.h"
#include "data/image/image.h"

namespace dalle {
namespace {

/// Minimum, median and maximum of a number that each rank has.
struct RankSpread {
  double min = 0;
  double median = 0;
  double max = 0;
  int64_t max_rank = 0;
};

RankSpread spread_over(ProcessGroup& group, c10::Device device, double own) {
  const auto options = torch::TensorOptions(device).dtype(torch::kDouble);
  auto all = torch::empty({group.world_size()}, options);
  group.all_gather(all, torch::full({1}, own, options));
  const auto [values, ranks] = all.cpu().sort();
  const int64_t last = group.world_size() - 1;
  return {.min = values[0].item<double>(),
          .median = values[last / 2].item<double>(),
          .max = values[last].item<double>(),
          .max_rank = ranks[last].item<int64_t>()};
}

double total_over_ranks(ProcessGroup& group, c10::Device device, double own) {
  const auto sum = torch::tensor({own}, torch::TensorOptions(device).dtype(torch::kDouble));
  group.all_reduce(sum);
  return sum.item<double>();
}

}  // namespace

StepClock::StepClock(const BatchLoader& loader, const ProcessGroup& group)
    : loader_(loader),
      group_(group),
      data_wait_s_(loader.wait_s()),
      rank_wait_s_(group.waited_s()) {}

Throughput::Step StepClock::measured(const LossCounts& counts) const {
  return {.samples = counts.samples,
          .tokens = counts.text_tokens > 0 ? counts.text_tokens + counts.image_tokens : 0,
          .step_s = seconds_since(began_),
          .data_wait_s = loader_.wait_s() - data_wait_s_,
          .rank_wait_s = group_.waited_s() - rank_wait_s_};
}

TrainingReport::TrainingReport(const StageTraits& stage, const RunPaths& run, ProcessGroup& group,
                               c10::Device device, const MetricPosition& position,
                               double matmul_flops)
    : group_(group),
      device_(device),
      throughput_(stage.flops_per_sample, total_over_ranks(group, device, matmul_flops)),
      samples_(run.samples() / stage.name),
      sample_name_(stage.sample_name) {
  if (!group.is_rank_zero()) return;
  make_directories(samples_);
  log_ =
      std::make_unique<MetricLog>(run.metrics(), run.events() / stage.name, stage.name, position);
}

void TrainingReport::log(const TrainingCounters& counters, const std::vector<Metric>& scheduled,
                         const GradientReducer::Communication& communication) {
  const std::vector<Metric> times = timings(communication);
  if (!group_.is_rank_zero()) return;
  std::vector<Metric> metrics;
  for (const auto& [name, mean] : counters.since_log.means())
    metrics.push_back({name, mean, name.substr(name.find('/') + 1) + " {:.4f}"});
  metrics.insert(metrics.end(), scheduled.begin(), scheduled.end());
  if (counters.skipped() > 0)
    metrics.push_back({"skipped", static_cast<double>(counters.skipped()), "skipped {:.0f}"});
  log_->write(counters.step, metrics, times);
}

/// What the clock measured since the last log. A collective.
std::vector<Metric> TrainingReport::timings(const GradientReducer::Communication& communication) {
  const Throughput::Report speed = throughput_.report();
  std::vector<Metric> timings = {{"step_ms", speed.step_ms, "{:.0f} ms"}};
  if (speed.tokens_per_s > 0)
    timings.push_back({"tokens_per_s", speed.tokens_per_s, "{:.0f} tok/s"});
  timings.insert(timings.end(),
                 {{"samples_per_s", speed.samples_per_s, "{:.1f} img/s"},
                  {"gflops", speed.flops_per_s / 1e9, "{:.1f} GFLOP/s"},
                  {"matmul_utilization", 100 * speed.matmul_utilization, "{:.1f}% of matmul peak"},
                  {"data_wait", 100 * speed.data_wait_fraction, "data {:.1f}%"}});
  if (const double pause_s = std::exchange(save_pause_s_, 0); pause_s > 0)
    timings.push_back({"save_ms", 1e3 * pause_s, "save {:.0f} ms"});
  add_cpu_wait(timings);
  if (group_.world_size() == 1 || communication.steps == 0) return timings;
  timings.push_back({"sync_ms",
                     1e3 * communication.exposed_s / static_cast<double>(communication.steps),
                     "sync {:.1f} ms"});
  if (communication.busy_s > 0)
    timings.push_back({"comm_overlap",
                       100 * std::max(0.0, 1 - communication.exposed_s / communication.busy_s),
                       "overlap {:.0f}%"});
  const RankSpread compute = spread_over(group_, device_, speed.compute_ms);
  timings.push_back({"compute_ms", compute.median, "compute {:.0f} ms"});
  timings.push_back({"compute_ms/min", compute.min, "({:.0f}"});
  timings.push_back({"compute_ms/max", compute.max, "to {:.0f},"});
  timings.push_back(
      {"compute_ms/slowest_rank", static_cast<double>(compute.max_rank), "slowest rank {:.0f})"});
  return timings;
}

/// Reports that something else uses the CPUs, which slows training far more than its share: in
/// each of the hundreds of parallel loops of a step, all threads wait for the last one.
void TrainingReport::add_cpu_wait(std::vector<Metric>& timings) {
  constexpr double kWorthMentioning = 0.1, kWorthWarning = 0.25;
  const double passed_s = seconds_since(std::exchange(logged_, std::chrono::steady_clock::now()));
  const double waited_s = cpu_wait_s();
  const double share = (waited_s - std::exchange(cpu_wait_s_, waited_s)) / passed_s;
  if (share < kWorthMentioning) return;
  timings.push_back({"cpu_wait", 100 * share, "waiting for a CPU {:.0f}%"});
  if (!device_.is_cpu() || share < kWorthWarning || std::exchange(reported_cpu_wait_, true)) return;
  log_warning(
      "training waited for a CPU {:.0f}% of the time, because other programs or its own "
      "data.workers keep the CPUs busy. Several ranks with one thread each are affected less than "
      "one rank with several threads: see \"Other programs\" in docs/training.md",
      100 * share);
}

void TrainingReport::log_evaluation(int64_t step, const std::vector<Metric>& metrics,
                                    double seconds) {
  if (!group_.is_rank_zero()) return;
  log_->write(step, metrics, std::vector<Metric>{{"evaluation_s", seconds, "{:.1f} s"}});
}

void TrainingReport::show(int64_t step, const RgbImage& grid) {
  if (!group_.is_rank_zero()) return;
  const std::string png = encode_image(grid, ImageFormat::kPng);
  log_->image(step, sample_name_, {.file = png, .width = grid.width, .height = grid.height});
  try {
    write_file_atomically(samples_ / fmt::format("{}-{:08d}.png", sample_name_, step), png);
  } catch (const Error& error) {  // no reason to lose the updates since the last checkpoint
    log_warning("step {}: sample images cannot be written: {}", step, error.what());
  }
}

}  // namespace dalle
