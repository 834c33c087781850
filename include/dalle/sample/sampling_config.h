#pragma once

#include <cstdint>

#include "dalle/core/fields.h"

namespace dalle {

/// How image tokens are drawn from the model's distribution.
struct SamplingConfig {
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;

  bool operator==(const SamplingConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("temperature", self.temperature,
          {.help = "divides the logits; 0 takes the likeliest token",
           .min = 0,
           .max = 100,
           .paper = "1 (section 3)"});
    visit("top_k", self.top_k,
          {.help = "draw from the k likeliest tokens; 0: all", .min = 0, .paper = "0"});
    visit("top_p", self.top_p,
          {.help = "draw from the fewest tokens whose probability reaches p; 1: all",
           .min = 0,
           .max = 1,
           .paper = "1"});
  }
};

}  // namespace dalle
