#pragma once

#include <cstdint>
#include <vector>

#include "core/config/config_checks.h"
#include "core/fields.h"

namespace dalle {

/// How a dVAE turns the encoder's output into codes; see Bottleneck.
enum class BottleneckKind { kGumbel, kVq, kFsq };

constexpr auto enum_names(BottleneckKind) {
  return names_in_order<BottleneckKind>("gumbel", "vq", "fsq");
}

/// How `gumbel` computes logits from the encoder's output.
enum class LogitKind { kLinear, kDistance };

constexpr auto enum_names(LogitKind) {
  return names_in_order<LogitKind>("linear", "distance");
}

/// How the codebook of `vq` follows the encoder.
enum class CodebookUpdate { kLoss, kEma };

constexpr auto enum_names(CodebookUpdate) {
  return names_in_order<CodebookUpdate>("loss", "ema");
}

/// Keys of `bottleneck: vq`. The defaults are those of the first VQ-VAE.
///
/// Source: van den Oord et al. 2017, section 3.2 and appendix A.1
struct VqConfig {
  CodebookUpdate update = CodebookUpdate::kLoss;
  double commitment = 0.25;
  double decay = 0.99;
  double epsilon = 1e-5;
  int64_t revive_every = 0;
  double revive_below = 0.1;
  bool unit_norm = false;

  bool operator==(const VqConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(decay < 1, "decay", {}, "found {}, expected less than 1", decay);
    checks.require(epsilon > 0, "epsilon", {}, "found 0, expected more than 0");
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("update", self.update,
          {.help = "loss: the codebook is learned by a loss, its mean squared distance to the "
                   "encoder's output; ema: each code is an exponential moving average of the "
                   "outputs that it was assigned"});
    visit("commitment", self.commitment,
          {.help = "weight of the encoder's mean squared distance to its codes", .min = 0});
    visit("decay", self.decay,
          {.help = "decay of the averages of update: ema, per update", .min = 0, .max = 1});
    visit("epsilon", self.epsilon,
          {.help = "Laplace smoothing of the averaged counts of update: ema", .min = 0});
    visit("revive_every", self.revive_every,
          {.help = "updates between revivals of dead codes, which are replaced by encoder outputs "
                   "of the current batch; 0: never",
           .min = 0});
    visit("revive_below", self.revive_below,
          {.help = "a code is dead if its usage since the last revival is less than this fraction "
                   "of the mean over all codes",
           .min = 0,
           .max = 1});
    visit("unit_norm", self.unit_norm,
          {.help = "L2-normalize codes and encoder outputs, so that the nearest code is the one "
                   "with the highest cosine similarity"});
  }
};

/// Notes a conflict for each key that is not at its default: for configs of other bottlenecks,
/// where it would have no effect.
/// @param checks  of the struct that `vq` and `bottleneck` are members of
void require_defaults(const VqConfig& vq, BottleneckKind bottleneck, const ConfigChecks& checks);

/// The levels of each channel of `bottleneck: fsq` for a number of codes, if the config gives none:
/// for 64, 256, 512, 1024, 4096, 8192, 16384 and 65536. All are at least 5, as the paper
/// recommends; its own sets have products that are not powers of two (240, 1000, 4375, 15360 and
/// 64000).
///
/// @return  empty if there is no default
/// Source: Mentzer et al. 2023, section 3.2 and table 1
std::vector<int64_t> default_fsq_levels(int64_t vocab_size);

/// The number of codes, which is the product of the levels; at least 1, and at most the largest
/// int64_t.
int64_t product_of(const std::vector<int64_t>& levels);

}  // namespace dalle
