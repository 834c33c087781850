#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "bench.h"
#include "core/machine.h"
#include "core/seconds.h"
#include "data/batch_loader.h"
#include "data/datasets.h"
#include "data/sample_source.h"
#include "data/skipped_samples.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config/stages.h"
#include "experiment/stages/experiment_data.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLoadedBatch = 32;

struct DataArguments {
  std::string config;
  std::vector<std::string> overrides;
  Stage stage = Stage::kDvae;
  std::vector<int64_t> workers = {1, 2};
  int64_t images = 1000;
  int64_t repeat = 3;
  std::string json;
};

void add_options(CLI::App& app, DataArguments& arguments) {
  app.add_option("--config", arguments.config, "the experiment's YAML file")->required();
  app.add_option("--set", arguments.overrides, "override a key; repeatable")
      ->allow_extra_args(false);
  add_enum_option<Stage>(app, "--stage", arguments.stage,
                         "dvae, dalle or clip, which crop differently",
                         {Stage::kDvae, Stage::kDalle, Stage::kClip});
  app.add_option("--workers", arguments.workers, "numbers of threads to compare, e.g. 1,2,4")
      ->delimiter(',')
      ->transform(whole_number(1, 1024))
      ->capture_default_str();
  app.add_option("--images", arguments.images, "images per measurement")
      ->transform(whole_number(1))
      ->capture_default_str();
  app.add_option("--repeat", arguments.repeat, "number of repetitions; the medians are printed")
      ->transform(whole_number(1, 1000))
      ->capture_default_str();
  add_json_option(app, arguments.json);
}

/// The seconds in which `workers` threads read, decode and crop this many images in training order,
/// after a batch that is not counted.
double seconds_to_load(const SampleSource& source, int64_t workers, int64_t images) {
  BatchLoader loader(
      [&](int64_t position) { return source.at(position); },
      {.batch_size = kLoadedBatch, .workers = workers, .end_position = kLoadedBatch + images});
  loader.next();
  const auto begin = std::chrono::steady_clock::now();
  while (loader.next().size() > 0) continue;
  return seconds_since(begin);
}

int bench_data(const DataArguments& arguments) {
  const ExperimentConfig config = load_experiment(arguments.config, arguments.overrides);
  const DatasetPair datasets = open_datasets(config.data, static_cast<uint64_t>(config.seed));
  SkippedSamples skipped("", datasets.train->size(), config.data.max_invalid_fraction);
  SampleSourceOptions options = source_options(config);
  options.with_caption = false;
  if (arguments.stage != Stage::kDvae) options.crop = CropKind::kTransformer;
  const SampleSource source(*datasets.train, nullptr, skipped, options);

  std::cout << fmt::format(
      "{}: {} images, crops of {} px for the stage {}; {}, {} processors\n{:>7} {:>9} {:>19} "
      "{:>16} "
      "{:>19}\n",
      config.name, datasets.train->size(), config.data.image_size, to_string(arguments.stage),
      this_processor().model, std::thread::hardware_concurrency(), "workers", "img/s",
      "slowest, fastest", "img/s per worker", "ms per image, worker");
  Json results = Json::array();
  for (const int64_t workers : arguments.workers) {
    std::vector<double> speeds;
    for (int64_t trial = 0; trial < arguments.repeat; ++trial)
      speeds.push_back(static_cast<double>(arguments.images) /
                       seconds_to_load(source, workers, arguments.images));
    std::ranges::sort(speeds);
    const double speed = speeds[speeds.size() / 2];
    const double of_worker = speed / static_cast<double>(workers);
    std::cout << fmt::format("{:>7} {:>9.0f} {:>19} {:>16.0f} {:>19.2f}\n", workers, speed,
                             fmt::format("{:.0f} to {:.0f}", speeds.front(), speeds.back()),
                             of_worker, 1e3 / of_worker)
              << std::flush;
    results.push_back({{"workers", workers},
                       {"images_per_s", speed},
                       {"images_per_s_slowest", speeds.front()},
                       {"images_per_s_fastest", speeds.back()}});
  }
  write_numbers(arguments.json, {{"config", config.name},
                                 {"stage", to_string(arguments.stage)},
                                 {"processor", this_processor().model},
                                 {"processors", std::thread::hardware_concurrency()},
                                 {"results", results}});
  return 0;
}

}  // namespace

Benchmark add_bench_data(CLI::App& app) {
  const auto arguments = std::make_shared<DataArguments>();
  add_options(app, *arguments);
  return [arguments] { return bench_data(*arguments); };
}

}  // namespace dalle
