#pragma once

#include <cstdint>
#include <optional>

namespace dalle {

/// What a user overrides in a model's SamplingConfig, by the same names: see override_sampling().
struct SamplingOverrides {
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> guidance;
  std::optional<double> guidance_from;
  std::optional<double> guidance_to;
};

}  // namespace dalle
