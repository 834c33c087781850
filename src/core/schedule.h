#pragma once

#include <cstdint>

#include "core/fields.h"

namespace dalle {

/// The curve along which a scheduled value moves.
enum class ScheduleShape { kConstant, kLinear, kHalfCosine, kQuarterCosine };

constexpr auto enum_names(ScheduleShape) {
  return names_in_order<ScheduleShape>("constant", "linear", "half_cosine", "quarter_cosine");
}

/// A value that changes with the step: temperature, KL weight or learning rate.
///
/// Moves from `from` at step 0 to `to` at step `steps` and stays there. A constant is always `to`.
/// Source: Ramesh et al. 2021, appendix A.2 ("cosine", without saying which, hence the two shapes)
struct Schedule {
  ScheduleShape shape = ScheduleShape::kHalfCosine;
  double from = 1.0;
  double to = 1.0;
  int64_t steps = 1;

  double at(int64_t step) const;

  bool operator==(const Schedule&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("shape", self.shape, {.help = "constant, linear, half_cosine or quarter_cosine"});
    visit("from", self.from, {.help = "value at step 0"});
    visit("to", self.to, {.help = "value from step `steps` onward"});
    visit("steps", self.steps, {.help = "updates until `to` is reached", .min = 1});
  }
};

}  // namespace dalle
