#pragma once

#include <cstdint>
#include <optional>

#include "core/config_checks.h"
#include "core/fields.h"

namespace dalle {

/// The architecture of a discrete VAE. The defaults are those of the published model; the optional
/// keys are deviations that small runs need.
///
/// Source: Ramesh et al. 2021, appendix A.1, and the released code
struct DiscreteVaeConfig {
  int64_t groups = 4;
  int64_t blocks_per_group = 2;
  int64_t hidden = 256;
  int64_t vocab_size = 8192;
  int64_t codebook_width = 128;
  std::optional<double> post_gain = std::nullopt;
  std::optional<double> log_scale_floor = std::nullopt;
  std::optional<double> codebook_init_std = std::nullopt;

  /// The side of the code grid of an image with side `image_size`.
  int64_t grid_size(int64_t image_size) const { return image_size >> (groups - 1); }

  /// Channels of the encoder's group `group` in [1, groups]; the decoder has the reverse order.
  int64_t width_of_group(int64_t group) const { return hidden << (group - 1); }

  /// The factor on each residual branch: post_gain, or the published 1 / (number of blocks)^2.
  double residual_gain() const {
    const auto blocks = static_cast<double>(groups * blocks_per_group);
    return post_gain.value_or(1.0 / (blocks * blocks));
  }

  bool operator==(const DiscreteVaeConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(hidden % 4 == 0, "hidden", {}, "found {}, expected a multiple of 4", hidden);
    checks.require(!post_gain || *post_gain > 0, "post_gain", {},
                   "found 0, expected more than 0 or null");
    checks.require(!codebook_init_std || *codebook_init_std > 0, "codebook_init_std", {},
                   "found 0, expected more than 0 or null");
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("groups", self.groups,
          {.help = "groups of residual blocks; the code grid is image_size / 2^(groups - 1)",
           .min = 1,
           .max = 7,
           .paper = "4 (A.1)"});
    visit("blocks_per_group", self.blocks_per_group,
          {.help = "residual blocks per group", .min = 1, .max = 16, .paper = "2 (A.1)"});
    visit("hidden", self.hidden,
          {.help = "channels at full resolution, doubled in each group; a multiple of 4",
           .min = 4,
           .paper = "256 (released code)"});
    visit("vocab_size", self.vocab_size,
          {.help = "number of codes", .min = 2, .max = 65536, .paper = "8192 (section 2.1)"});
    visit("codebook_width", self.codebook_width,
          {.help = "width of a code's embedding, the decoder's first convolution",
           .min = 1,
           .paper = "128 (released code)"});
    visit("post_gain", self.post_gain,
          {.help = "factor on the output of each residual branch; null: 1 / (groups * "
                   "blocks_per_group)^2",
           .min = 0,
           .max = 1,
           .paper = "null, which is 1/64 (A.1)"});
    visit(
        "log_scale_floor", self.log_scale_floor,
        {.help = "smallest ln b of the likelihood; null: no limit. Flat synthetic images need one",
         .paper = "null"});
    visit("codebook_init_std", self.codebook_init_std,
          {.help = "standard deviation of the initial code embeddings; null: 1 / sqrt(vocab_size). "
                   "Short runs need 1",
           .min = 0,
           .paper = "null (released code)"});
  }
};

}  // namespace dalle
