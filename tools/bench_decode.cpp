#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/types.h>

#include "bench.h"
#include "core/error.h"
#include "core/machine.h"
#include "core/seconds.h"
#include "experiment/config/load_experiment.h"
#include "experiment/torch_setup.h"
#include "experiment/trained/trained_dalle.h"
#include "nn/decode_kernels.h"
#include "sample/generate_codes.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

/// For a config without a tokenizer; only the size of an embedding depends on it.
constexpr int64_t kTextVocab = 16'384;

struct DecodeArguments {
  std::string model;
  std::string config;
  std::vector<std::string> overrides;
  std::vector<int64_t> images = {1, 16};
  std::vector<int64_t> windows = {1, 8, 16, 32};
  int64_t repeat = 3;
  std::string device = "cpu";
  std::string json;
};

void add_options(CLI::App& app, DecodeArguments& arguments) {
  app.add_option("--model", arguments.model, "run folder or checkpoint");
  app.add_option("--config", arguments.config,
                 "the YAML file of a model to measure untrained, instead of --model");
  app.add_option("--set", arguments.overrides, "override a key of the config; repeatable")
      ->allow_extra_args(false);
  app.add_option("--images", arguments.images, "numbers of images generated at once, e.g. 1,16")
      ->delimiter(',')
      ->transform(whole_number(1, 4096))
      ->capture_default_str();
  app.add_option("--windows", arguments.windows,
                 "windows of parallel decoding to compare, on the CPU; 1: sequential decoding")
      ->delimiter(',')
      ->transform(whole_number(1, 1024))
      ->capture_default_str();
  app.add_option("--repeat", arguments.repeat, "number of repetitions; the medians are printed")
      ->transform(whole_number(1, 1000))
      ->capture_default_str();
  add_device_option(app, arguments.device);
  add_json_option(app, arguments.json);
}

struct Subject {
  std::string name;
  DalleModel model = nullptr;
  SamplingConfig sampling;
};

/// A hard case for parallel decoding: random weights, so that no code says much about the next one.
Subject untrained(const DecodeArguments& arguments, c10::Device device) {
  std::vector<std::string> overrides = arguments.overrides;
  overrides.insert(overrides.begin(), "data.path=none");  // required, but not read
  const ExperimentConfig config = load_experiment(arguments.config, overrides);
  DalleModel model(config.dalle.model, config.layout(), kTextVocab, config.dvae.model.vocab_size,
                   config.dalle.train.precision);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  model->initialize(generator);
  const torch::NoGradGuard no_grad;
  // The paper initializes it with 0, so that every guess would be right.
  model->named_parameters()["image_head.weight"].normal_(
      0, 2 / std::sqrt(static_cast<double>(config.dalle.model.width)), generator);
  model->eval();
  model->to(device);
  return {.name = config.name + ", untrained", .model = model, .sampling = config.sample};
}

Subject subject_of(const DecodeArguments& arguments, c10::Device device) {
  if (arguments.model.empty() == arguments.config.empty())
    throw Error("decode: expected exactly one of --model and --config");
  if (arguments.model.empty()) return untrained(arguments, device);
  const TrainedDalle dalle = load_trained_dalle(arguments.model, device);
  return {.name = dalle.config.name, .model = dalle.model, .sampling = dalle.config.sample};
}

/// The bytes per second that all threads together can read from a buffer larger than most caches.
double measure_bandwidth() {
  const at::Tensor buffer = torch::ones({int64_t{64} << 20});  // 256 MiB
  const float* const values = buffer.const_data_ptr<float>();
  double best = 0;
  for (int trial = 0; trial < 5; ++trial) {
    const auto begin = std::chrono::steady_clock::now();
    at::parallel_for(0, buffer.numel(), 1 << 20, [&](int64_t first, int64_t last) {
      constexpr int64_t kSums = 64;  // so that the loop vectorizes
      float sums[kSums] = {};
      for (int64_t i = first; i + kSums <= last; i += kSums)
        for (int64_t lane = 0; lane < kSums; ++lane) sums[lane] += values[i + lane];
      if (sums[0] <= 0) throw Error("the sum of ones is not positive");
    });
    best = std::max(best, static_cast<double>(buffer.nbytes()) / seconds_since(begin));
  }
  return best;
}

struct Measurement {
  std::vector<double> seconds;
  GenerateStatistics statistics;
  at::Tensor codes;
};

/// Images [0, images) of captions of one token each; four images share a caption.
Measurement measure(const Subject& subject, int64_t images, const DecodeConfig& decode,
                    int64_t repeat) {
  std::vector<CaptionImages> requests;
  for (int64_t first = 0; first < images; first += 4) {
    at::Tensor caption =
        at::full({subject.model->layout().max_caption_tokens()}, kPadToken, at::kLong);
    if (caption.numel() > 0) caption[0] = 4 + first / 4 % 64;  // the first tokens are special
    requests.push_back({.caption = caption, .count = std::min<int64_t>(4, images - first)});
  }
  const SequenceLayout& layout = subject.model->layout();
  Measurement found{
      .seconds = {},
      .statistics = {},
      .codes = torch::zeros({images, layout.grid_height, layout.grid_width}, at::kLong)};
  for (int64_t trial = 0; trial < repeat; ++trial) {
    const auto begin = std::chrono::steady_clock::now();
    found.statistics = generate_codes(
        subject.model, requests, subject.sampling, {.batch_size = images, .decode = decode},
        [&](size_t request, int64_t image, const at::Tensor& codes) {
          found.codes[static_cast<int64_t>(request) * 4 + image].copy_(codes);
        });
    found.seconds.push_back(seconds_since(begin));
  }
  std::ranges::sort(found.seconds);
  return found;
}

/// @param bandwidth  0: unknown
Json result_of(const Measurement& found, int64_t images, const std::string& mode,
               double bandwidth) {
  const GenerateStatistics& statistics = found.statistics;
  const double seconds = found.seconds[found.seconds.size() / 2];
  const auto codes = static_cast<double>(statistics.codes);
  const double bytes = static_cast<double>(statistics.weight_bytes * statistics.passes);
  Json result = {
      {"images", images},
      {"decode", mode},
      {"ms_per_image", 1e3 * seconds / static_cast<double>(images)},
      {"ms_per_image_fastest", 1e3 * found.seconds.front() / static_cast<double>(images)},
      {"ms_per_image_slowest", 1e3 * found.seconds.back() / static_cast<double>(images)},
      {"tokens_per_s", codes / seconds},
      {"passes", statistics.passes},
      {"rows_per_pass",
       static_cast<double>(statistics.rows) / static_cast<double>(statistics.passes)}};
  if (bandwidth > 0)
    result.update({{"weight_bytes_per_token", bytes / codes},
                   {"weight_bytes_per_s", bytes / seconds},
                   {"share_of_bandwidth", bytes / seconds / bandwidth}});
  return result;
}

std::string row(const Json& result) {
  const auto or_dash = [&](const char* name, double scale, const char* format) {
    return result.contains(name)
               ? fmt::format(fmt::runtime(format), scale * result[name].get<double>())
               : "-";
  };
  return fmt::format(
      "{:>6} {:>13} {:>10.1f} {:>17} {:>9.0f} {:>7} {:>6.1f} {:>9} {:>7} {:>7}\n",
      result["images"].get<int64_t>(), result["decode"].get<std::string>(),
      result["ms_per_image"].get<double>(),
      fmt::format("{:.1f} to {:.1f}", result["ms_per_image_fastest"].get<double>(),
                  result["ms_per_image_slowest"].get<double>()),
      result["tokens_per_s"].get<double>(), result["passes"].get<int64_t>(),
      result["rows_per_pass"].get<double>(), or_dash("weight_bytes_per_token", 1e-6, "{:.3f}"),
      or_dash("weight_bytes_per_s", 1e-9, "{:.1f}"), or_dash("share_of_bandwidth", 100, "{:.0f}%"));
}

std::vector<std::pair<std::string, DecodeConfig>> modes_of(const DecodeArguments& arguments,
                                                           c10::Device device) {
  if (!device.is_cpu()) return {{"sequential", DecodeConfig{}}};
  std::vector<std::pair<std::string, DecodeConfig>> modes;
  for (const int64_t window : arguments.windows)
    modes.emplace_back(window == 1 ? "sequential" : fmt::format("window {}", window),
                       DecodeConfig{DecodeMode::kParallel, window});
  modes.emplace_back("auto", DecodeConfig{});
  return modes;
}

int bench_decode(const DecodeArguments& arguments) {
  const c10::Device device = find_device(arguments.device);
  const Subject subject = subject_of(arguments, device);
  const double bandwidth = device.is_cpu() ? measure_bandwidth() : 0;
  const std::string place =
      device.is_cpu()
          ? fmt::format("{}, {} kernels, {} threads, reading {:.1f} GB/s", this_processor().model,
                        decode_kernels().name, at::get_num_threads(), bandwidth / 1e9)
          : device.str();
  std::cout << fmt::format(
      "{}: {} image tokens; {}\n{:>6} {:>13} {:>10} {:>17} {:>9} {:>7} {:>6} {:>9} {:>7} {:>12}\n",
      subject.name, subject.model->layout().image_length(), place, "images", "decode", "ms/image",
      "fastest, slowest", "tokens/s", "passes", "rows", "MB/token", "GB/s", "% bandwidth");
  Json results = Json::array();
  for (const int64_t images : arguments.images) {
    at::Tensor expected;
    for (const auto& [name, decode] : modes_of(arguments, device)) {
      const Measurement found = measure(subject, images, decode, arguments.repeat);
      if (!expected.defined()) expected = found.codes;
      if (!torch::equal(found.codes, expected))
        throw Error("{} images, {}: the codes differ from those of the first mode", images, name);
      results.push_back(result_of(found, images, name, bandwidth));
      std::cout << row(results.back()) << std::flush;
    }
  }
  write_numbers(arguments.json, {{"model", subject.name},
                                 {"device", device.str()},
                                 {"processor", this_processor().model},
                                 {"kernels", decode_kernels().name},
                                 {"threads", at::get_num_threads()},
                                 {"bandwidth", bandwidth},
                                 {"results", results}});
  return 0;
}

}  // namespace

Benchmark add_bench_decode(CLI::App& app) {
  const auto arguments = std::make_shared<DecodeArguments>();
  add_options(app, *arguments);
  return [arguments] { return bench_decode(*arguments); };
}

}  // namespace dalle
