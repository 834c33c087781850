#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <fmt/ranges.h>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "model/bottleneck_config.h"

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
  BottleneckKind bottleneck = BottleneckKind::kGumbel;
  LogitKind logits = LogitKind::kLinear;
  VqConfig vq = {};
  std::vector<int64_t> fsq_levels = {};

  /// The side of the code grid of an image with side `image_size`.
  int64_t grid_size(int64_t image_size) const { return image_size >> (groups - 1); }

  /// Channels of the encoder's group `group` in [1, groups]; the decoder has the reverse order.
  int64_t width_of_group(int64_t group) const { return hidden << (group - 1); }

  /// width_of_group() of all groups, from the encoder's first.
  std::vector<int64_t> group_widths() const {
    std::vector<int64_t> widths;
    for (int64_t group = 1; group <= groups; ++group) widths.push_back(width_of_group(group));
    return widths;
  }

  /// The factor on each residual branch: post_gain, or the published 1 / (number of blocks)^2.
  double residual_gain() const {
    const auto blocks = static_cast<double>(groups * blocks_per_group);
    return post_gain.value_or(1.0 / (blocks * blocks));
  }

  /// The levels of `fsq`, one per channel of the encoder's output; empty if there is no default.
  std::vector<int64_t> levels() const {
    return fsq_levels.empty() ? default_fsq_levels(vocab_size) : fsq_levels;
  }

  /// Channels of the encoder's output: a logit per code, a vector that is compared with the codes,
  /// or a number per channel that is rounded.
  int64_t latent_channels() const {
    if (bottleneck == BottleneckKind::kVq || logits == LogitKind::kDistance) return codebook_width;
    return bottleneck == BottleneckKind::kFsq ? static_cast<int64_t>(levels().size()) : vocab_size;
  }

  /// Channels that the decoder's first convolution reads: one per code, except that `fsq` has no
  /// codebook and gives it the rounded numbers.
  int64_t decoder_inputs() const {
    return bottleneck == BottleneckKind::kFsq ? latent_channels() : vocab_size;
  }

  bool operator==(const DiscreteVaeConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(hidden % 4 == 0, "hidden", {}, "found {}, expected a multiple of 4", hidden);
    checks.require(!post_gain || *post_gain > 0, "post_gain", {},
                   "found 0, expected more than 0 or null");
    checks.require(!codebook_init_std || *codebook_init_std > 0, "codebook_init_std", {},
                   "found 0, expected more than 0 or null");
    vq.validate(checks.of("vq"));
    check_bottleneck(checks);
  }

  /// Keys of a bottleneck that is not chosen would have no effect.
  void check_bottleneck(const ConfigChecks& checks) const {
    const auto kind = to_string(bottleneck);
    const bool is_fsq = bottleneck == BottleneckKind::kFsq;
    if (bottleneck != BottleneckKind::kVq) require_defaults(vq, bottleneck, checks);
    checks.require(bottleneck == BottleneckKind::kGumbel || logits == LogitKind::kLinear, "logits",
                   {"bottleneck"}, "found {}, expected linear, since {} is {}", to_string(logits),
                   checks.path("bottleneck"), kind);
    checks.require(is_fsq || fsq_levels.empty(), "fsq_levels", {"bottleneck"},
                   "found [{}], expected [], since {} is {}", fmt::join(fsq_levels, ", "),
                   checks.path("bottleneck"), kind);
    checks.require(
        !is_fsq || !levels().empty(), "fsq_levels", {"vocab_size", "bottleneck"},
        "found [], expected numbers whose product is {}, which is {} (there are defaults "
        "for 64, 256, 512, 1024, 4096, 8192, 16384 and 65536)",
        checks.path("vocab_size"), vocab_size);
    checks.require(!is_fsq || levels().empty() || product_of(levels()) == vocab_size, "fsq_levels",
                   {"vocab_size"}, "found [{}], expected numbers whose product is {}, which is {}",
                   fmt::join(levels(), ", "), checks.path("vocab_size"), vocab_size);
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
           .max = 32768,
           .paper = "256 (released code)"});
    visit("vocab_size", self.vocab_size,
          {.help = "number of codes", .min = 2, .max = 65536, .paper = "8192 (section 2.1)"});
    visit("codebook_width", self.codebook_width,
          {.help = "width of a code's embedding, the decoder's first convolution",
           .min = 1,
           .max = 65536,
           .paper = "128 (released code)"});
    visit(
        "bottleneck", self.bottleneck,
        {.help = "how the encoder's output becomes codes: gumbel, the Gumbel-softmax relaxation; "
                 "vq, the nearest code of a codebook (VQ-VAE); fsq, each channel rounded to a few "
                 "levels (finite scalar quantization)",
         .paper = "gumbel (section 2.1)"});
    visit("logits", self.logits,
          {.help = "bottleneck: gumbel: linear, the encoder has one output per code; distance, it "
                   "has codebook_width outputs, whose negative squared distances to the codes' "
                   "embeddings are the logits, so that any code can be the likeliest",
           .paper = "linear (released code)"});
    visit("vq", self.vq, {.help = "keys of bottleneck: vq; with others they must not be set"});
    visit("fsq_levels", self.fsq_levels,
          {.help = "bottleneck: fsq: levels of each channel, whose product must be vocab_size; "
                   "empty: defaults, for powers of two from 64 to 65536 except 128, 2048 and 32768",
           .min = 2});
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
                   "Short runs need 1, or 0.3 with logits: distance. Not used with fsq, which has "
                   "no embeddings",
           .min = 0,
           .paper = "null (released code)"});
  }
};

}  // namespace dalle
