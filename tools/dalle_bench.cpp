// dalle-bench: measures how fast this machine trains an experiment, alone and on several ranks, and
// how fast it generates image tokens, also for many clients.

#include <string>
#include <vector>

#include "bench_decode.h"
#include "bench_serve.h"
#include "bench_train.h"
#include "command_line.h"

namespace {

using namespace dalle;

void add_options(CLI::App& app, BenchTrainArguments& arguments) {
  app.add_option("--config", arguments.config, "the experiment's YAML file")->required();
  app.add_option("--set", arguments.overrides, "override a key; repeatable")
      ->allow_extra_args(false);
  app.add_option("--stage", arguments.stage, "dvae, dalle or clip")
      ->check(CLI::IsMember({"dvae", "dalle", "clip"}))
      ->capture_default_str();
  app.add_option("--ranks", arguments.ranks, "numbers of ranks to compare, e.g. 1,2,4")
      ->delimiter(',')
      ->transform(whole_number(1, 1024))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps, "steps per run, of which the second half is measured")
      ->transform(whole_number(2, 1'000'000))
      ->capture_default_str();
  add_device_option(app, arguments.device);
  app.add_option("--json", arguments.json, "also write the numbers to this file");
}

void add_options(CLI::App& app, BenchDecodeArguments& arguments) {
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
  app.add_option("--json", arguments.json, "also write the numbers to this file");
}

void add_options(CLI::App& app, BenchServeArguments& arguments) {
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
  app.add_option("--json", arguments.json, "also write the numbers to this file");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures how fast this machine trains and generates.", "dalle-bench");
  app.require_subcommand(1);
  BenchTrainArguments train_arguments;
  add_options(
      *app.add_subcommand("train",
                          "weak scaling, with the same batch size per rank: efficiency, time spent "
                          "waiting for gradient communication, its overlap with computation, and "
                          "utilization of the machine's measured matmul peak"),
      train_arguments);
  BenchDecodeArguments decode_arguments;
  CLI::App& decode =
      *app.add_subcommand("decode",
                          "speed of generating image tokens: time per image, passes through the "
                          "model, and, on the CPU, "
                          "the rate of reading weights compared to the memory bandwidth");
  add_options(decode, decode_arguments);
  BenchServeArguments serve_arguments;
  CLI::App& serve = *app.add_subcommand(
      "serve",
      "speed of the engine of dalle-serve with many clients on the CPU, compared to one offline "
      "batch of the same images, and when the first preview of an image arrives");
  add_options(serve, serve_arguments);
  const ToolText text{
      .examples =
          "  dalle-bench train --config configs/dalle-50m.yaml --ranks 1,2,4 --set "
          "data.kind=shapes\n"
          "  dalle-bench train --config configs/shapes-demo.yaml --stage dvae --json bench.json\n"
          "  dalle-bench decode --model runs/shapes-demo --images 1,16 --windows 1,8,16,32\n"
          "  dalle-bench serve --model runs/shapes-demo --clients 32\n",
      .memory_advice = "lower micro_batch_size or --ranks"};
  return run_tool(app, argc, argv, text, [&] {
    if (decode.parsed()) return bench_decode(decode_arguments);
    return serve.parsed() ? bench_serve(serve_arguments) : bench_train(train_arguments);
  });
}
