#pragma once

#include <cstdint>

#include "core/config_checks.h"
#include "core/fields.h"

namespace dalle {

/// How image tokens are sampled from the model's distribution.
struct SamplingConfig {
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;

  bool operator==(const SamplingConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(top_p > 0, "top_p", {}, "found 0, expected more than 0");
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("temperature", self.temperature,
          {.help = "divides the logits; 0 takes the most likely token",
           .min = 0,
           .max = 100,
           .paper = "1 (section 3)"});
    visit("top_k", self.top_k,
          {.help = "sample from the k most likely tokens; 0: all", .min = 0, .paper = "0"});
    visit("top_p", self.top_p,
          {.help = "sample from the fewest tokens whose probability reaches p; 1: all",
           .min = 0,
           .max = 1,
           .paper = "1"});
  }
};

}  // namespace dalle
