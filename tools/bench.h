#pragma once

#include <functional>
#include <string>

#include "command_line.h"
#include "core/files.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// Runs a benchmark after the options of its subcommand have been parsed, and prints a table.
/// Returns the exit status.
using Benchmark = std::function<int()>;

/// Trains for a few steps on each number of ranks, with the same batch per rank (weak scaling).
/// The benchmark throws a dalle::Error if a training fails.
Benchmark add_bench_train(CLI::App& app);

/// Measures how fast threads read, decode and crop the training images of an experiment.
/// The benchmark throws a dalle::Error if too many images are invalid.
Benchmark add_bench_data(CLI::App& app);

/// Measures how fast a device generates image tokens, on the CPU with sequential, parallel and
/// automatic decoding in turn. The benchmark throws a dalle::Error if the modes generate different
/// codes.
Benchmark add_bench_decode(CLI::App& app);

/// Measures the engine of dalle-serve, without HTTP, against one offline batch of the same images,
/// and when the first preview of an image arrives. The benchmark throws a dalle::Error if the
/// images differ.
Benchmark add_bench_serve(CLI::App& app);

inline void add_json_option(CLI::App& app, std::string& file) {
  app.add_option("--json", file, "also write the numbers to this file");
}

/// Writes the numbers to the file that --json names, if it was given.
inline void write_numbers(const std::string& file, const nlohmann::ordered_json& numbers) {
  if (!file.empty()) write_file_atomically(file, numbers.dump(2) + "\n");
}

}  // namespace dalle
