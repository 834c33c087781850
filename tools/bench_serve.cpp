#include <algorithm>
#include <chrono>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "bench.h"
#include "core/error.h"
#include "core/machine.h"
#include "core/seconds.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/decode_image.h"
#include "sample/generate_codes.h"
#include "serve/engine/generation_engine.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr int64_t kSeed = 1, kPreviews = 3;

struct ServeArguments {
  std::string model;
  int64_t clients = 32;
  int64_t images = 8;
  int64_t repeat = 3;
  std::string json;
};

void add_options(CLI::App& app, ServeArguments& arguments) {
  app.add_option("--model", arguments.model, "run folder or checkpoint")->required();
  app.add_option("--clients", arguments.clients,
                 "number of clients; each waits for its image before it asks for the next one")
      ->transform(whole_number(1, 256))
      ->capture_default_str();
  app.add_option("--images", arguments.images, "images per client")
      ->transform(whole_number(1, 100'000))
      ->capture_default_str();
  app.add_option("--repeat", arguments.repeat, "number of repetitions; the medians are printed")
      ->transform(whole_number(1, 1000))
      ->capture_default_str();
  add_json_option(app, arguments.json);
}

std::string caption_of(int64_t client) {
  const std::vector<std::string> colors = {"red", "blue", "green", "yellow"};
  const std::vector<std::string> shapes = {"circle", "square", "triangle", "ring"};
  const auto number = static_cast<size_t>(client);
  return fmt::format("a {} {}", colors[number % 4], shapes[number / 4 % 4]);
}

/// Images by client and number.
using ClientImages = std::map<std::pair<int64_t, int64_t>, RgbImage>;

struct ServeMeasurement {
  double seconds = 0;
  ClientImages images = {};
  std::vector<double> first_preview = {};  ///< as a part of the image's time
};

/// All images of all clients, image by image, with or without decoding them.
ServeMeasurement offline(const TrainedDalle& dalle, const ServeArguments& arguments,
                         bool with_pixels) {
  std::vector<CaptionImages> requests;
  for (int64_t client = 0; client < arguments.clients; ++client)
    requests.push_back({.caption = caption_tokens(dalle, caption_of(client)),
                        .first_image = client * arguments.images,
                        .count = arguments.images});
  ServeMeasurement found;
  const auto start = Clock::now();
  generate_codes(
      dalle.model, requests, dalle.config.sample,
      {.seed = static_cast<uint64_t>(kSeed), .batch_size = arguments.clients},
      [&](size_t request, int64_t image, const at::Tensor& codes) {
        if (with_pixels)
          found.images[{static_cast<int64_t>(request), image}] = decode_image(dalle.vae, codes);
      });
  found.seconds = seconds_since(start);
  return found;
}

/// An image of a client, and when its first preview and the image itself came.
struct Received {
  RgbImage pixels;
  double first_preview_s = 0;
  double image_s = 0;
};

Received ask(GenerationEngine& engine, int64_t client, int64_t image, int64_t previews) {
  const auto start = Clock::now();
  Received received;
  // Shared, because it is still in use on the engine's thread when it wakes this one.
  const auto complete = std::make_shared<std::promise<void>>();
  engine.submit({.client = fmt::format("{}", client),
                 .caption = caption_of(client),
                 .seed = kSeed,
                 .first_image = image,
                 .sampling = engine.dalle().config.sample,
                 .previews = previews},
                {.preview =
                     [&](int64_t, int64_t number, const RgbImage&) {
                       if (number == 0) received.first_preview_s = seconds_since(start);
                     },
                 .image =
                     [&](const GeneratedImage& generated) {
                       received.pixels = generated.pixels;
                       received.image_s = seconds_since(start);
                     },
                 .done = [complete](const GenerationTimes&) { complete->set_value(); },
                 .failed =
                     [complete](const std::string& message) {
                       complete->set_exception(std::make_exception_ptr(Error("{}", message)));
                     }});
  complete->get_future().get();
  return received;
}

ServeMeasurement served(GenerationEngine& engine, const ServeArguments& arguments,
                        int64_t previews) {
  std::vector<std::future<std::vector<Received>>> clients;
  const auto start = Clock::now();
  for (int64_t client = 0; client < arguments.clients; ++client)
    clients.push_back(std::async(std::launch::async, [&, client] {
      std::vector<Received> received;
      for (int64_t i = 0; i < arguments.images; ++i)
        received.push_back(ask(engine, client, client * arguments.images + i, previews));
      return received;
    }));
  for (const auto& client : clients) client.wait();
  ServeMeasurement found{.seconds = seconds_since(start)};
  for (int64_t client = 0; client < arguments.clients; ++client) {
    int64_t image = client * arguments.images;
    for (Received& one : clients[static_cast<size_t>(client)].get()) {
      found.images[{client, image++}] = std::move(one.pixels);
      if (previews > 0) found.first_preview.push_back(one.first_preview_s / one.image_s);
    }
  }
  return found;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int bench_serve(const ServeArguments& arguments) {
  const TrainedDalle dalle = load_trained_dalle(arguments.model, c10::kCPU);
  GenerationEngine engine(load_trained_dalle(arguments.model, c10::kCPU),
                          {.batch_size = arguments.clients, .decode = dalle.config.sample});
  // In turn, so that a change of the machine's speed affects all of them.
  std::vector<double> codes_s, images_s, served_s, previewed_s, first_preview;
  for (int64_t trial = 0; trial < arguments.repeat; ++trial) {
    codes_s.push_back(offline(dalle, arguments, /*with_pixels=*/false).seconds);
    const ServeMeasurement expected = offline(dalle, arguments, /*with_pixels=*/true);
    images_s.push_back(expected.seconds);
    const ServeMeasurement plain = served(engine, arguments, /*previews=*/0);
    served_s.push_back(plain.seconds);
    const ServeMeasurement previewed = served(engine, arguments, kPreviews);
    previewed_s.push_back(previewed.seconds);
    first_preview.push_back(median(previewed.first_preview));
    if (plain.images != expected.images || previewed.images != expected.images)
      throw Error("the served images differ from those of the offline batch");
  }
  const auto images = static_cast<double>(arguments.clients * arguments.images);
  const double base = median(codes_s);
  std::cout << fmt::format("{}: {} clients, {} images each; {}, {} threads\n{:>33} {:>10} {:>8}\n",
                           dalle.config.name, arguments.clients, arguments.images,
                           this_processor().model, at::get_num_threads(), "", "images/s", "share");
  Json results = Json::object();
  const auto report = [&](const std::string& name, const std::vector<double>& seconds) {
    const double speed = images / median(seconds), share = base / median(seconds);
    results[name] = {{"images_per_s", speed}, {"share", share}, {"seconds", seconds}};
    std::cout << fmt::format("{:>33} {:>10.1f} {:>7.0f}%\n", name, speed, 100 * share);
  };
  report("offline, only codes", codes_s);
  report("offline, codes and pixels", images_s);
  report("served", served_s);
  report(fmt::format("served, {} previews", kPreviews), previewed_s);
  std::cout << fmt::format("first of {} previews after {:.0f}% of an image's time\n", kPreviews,
                           100 * median(first_preview));
  write_numbers(arguments.json, {{"model", dalle.config.name},
                                 {"processor", this_processor().model},
                                 {"threads", at::get_num_threads()},
                                 {"clients", arguments.clients},
                                 {"images", arguments.images},
                                 {"first_preview", median(first_preview)},
                                 {"results", results}});
  return 0;
}

}  // namespace

Benchmark add_bench_serve(CLI::App& app) {
  const auto arguments = std::make_shared<ServeArguments>();
  add_options(app, *arguments);
  return [arguments] { return bench_serve(*arguments); };
}

}  // namespace dalle
