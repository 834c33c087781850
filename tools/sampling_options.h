#pragma once

#include <cstdint>
#include <optional>

#include "command_line.h"

namespace dalle {

/// Command-line options that replace settings of a model's SamplingConfig, by its names.
struct SamplingOptions {
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> guidance;
  std::optional<double> guidance_from;
  std::optional<double> guidance_to;
};

void add_sampling_options(CLI::App& app, SamplingOptions& options);

}  // namespace dalle
