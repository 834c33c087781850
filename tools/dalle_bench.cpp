// dalle-bench: measures how fast this machine trains an experiment, alone and on several ranks, how
// fast it loads the images, and how fast it generates image tokens, also for many clients.

#include "bench.h"
#include "command_line.h"

int main(int argc, char** argv) {
  using namespace dalle;
  CLI::App app("Measures how fast this machine trains and generates.", "dalle-bench");
  app.require_subcommand(1);
  const Benchmark bench_training = add_bench_train(*app.add_subcommand(
      "train",
      "weak scaling, with the same batch size per rank: efficiency, time spent waiting for "
      "gradient communication, its overlap with computation, and utilization of the machine's "
      "measured matmul peak"));
  const Benchmark bench_loading = add_bench_data(*app.add_subcommand(
      "data",
      "speed of reading, decoding and cropping training images, which must exceed the images per "
      "second of training"));
  const Benchmark bench_decoding = add_bench_decode(*app.add_subcommand(
      "decode",
      "speed of generating image tokens: time per image, passes through the model, and, on the "
      "CPU, the rate of reading weights compared to the memory bandwidth"));
  const Benchmark bench_serving = add_bench_serve(*app.add_subcommand(
      "serve",
      "speed of the engine of dalle-serve with many clients on the CPU, compared to one offline "
      "batch of the same images, and when the first preview of an image arrives"));
  const ToolText text{
      .examples =
          "  dalle-bench train --config configs/dalle-50m.yaml --ranks 1,2,4 --set "
          "data.kind=shapes\n"
          "  dalle-bench train --config configs/shapes-demo.yaml --stage dvae --json bench.json\n"
          "  dalle-bench data --config configs/dalle-50m.yaml --set data.path=my-images "
          "--workers 1,4\n"
          "  dalle-bench decode --model runs/shapes-demo --images 1,16 --windows 1,8,16,32\n"
          "  dalle-bench serve --model runs/shapes-demo --clients 32\n",
      .memory_advice = "lower micro_batch_size or --ranks"};
  run_tool(app, argc, argv, text, [&] {
    if (app.got_subcommand("data")) return bench_loading();
    if (app.got_subcommand("decode")) return bench_decoding();
    return app.got_subcommand("serve") ? bench_serving() : bench_training();
  });
}
