#pragma once

#include <cstdint>
#include <optional>

#include "core/config/config_checks.h"
#include "core/fields.h"

namespace dalle {

/// How image tokens are sampled from the model's distribution.
struct SamplingConfig {
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;
  double guidance = 1.0;
  double guidance_from = 0.0;
  double guidance_to = 1.0;

  bool operator==(const SamplingConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(top_p > 0, "top_p", {}, "found 0, expected more than 0");
    checks.require(guidance_from < guidance_to, "guidance_to", {"guidance_from"},
                   "found {}, expected more than {}, which is {}", guidance_to,
                   checks.path("guidance_from"), guidance_from);
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
          {.help = "nucleus sampling: sample from the smallest set of most likely tokens whose "
                   "total probability reaches p; 1: all",
           .min = 0,
           .max = 1,
           .paper = "1"});
    visit("guidance", self.guidance,
          {.help = "scale s of classifier-free guidance: the logits become "
                   "null + s (conditional - null), where null are those without a caption; 1: off; "
                   "more than 1 follows the caption more closely, at up to twice the cost; needs a "
                   "model trained with dalle.train.caption_dropout",
           .min = 0,
           .max = 100,
           .paper = "1"});
    visit("guidance_from", self.guidance_from,
          {.help = "fraction of an image's codes, in raster order, after which guidance begins",
           .min = 0,
           .max = 1});
    visit("guidance_to", self.guidance_to,
          {.help = "fraction of an image's codes after which guidance ends; the remaining codes "
                   "cost no more than without guidance",
           .min = 0,
           .max = 1});
  }
};

/// What the ranges of the keys and validate() require, for settings that are not from a config.
/// @throws dalle::Error naming the key, what was found, and what was expected
void check_sampling(const SamplingConfig& sampling);

/// What a user overrides in a model's SamplingConfig, by the same names: see override_sampling().
struct SamplingOverrides {
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> guidance;
  std::optional<double> guidance_from;
  std::optional<double> guidance_to;
};

/// The settings, with those replaced that have a value in `overrides`.
/// @tparam Overrides  has a std::optional for each setting, with its name
/// @throws dalle::Error as check_sampling() does
template <class Overrides>
SamplingConfig override_sampling(SamplingConfig sampling, const Overrides& overrides) {
  sampling.temperature = overrides.temperature.value_or(sampling.temperature);
  sampling.top_k = overrides.top_k.value_or(sampling.top_k);
  sampling.top_p = overrides.top_p.value_or(sampling.top_p);
  sampling.guidance = overrides.guidance.value_or(sampling.guidance);
  sampling.guidance_from = overrides.guidance_from.value_or(sampling.guidance_from);
  sampling.guidance_to = overrides.guidance_to.value_or(sampling.guidance_to);
  check_sampling(sampling);
  return sampling;
}

}  // namespace dalle
