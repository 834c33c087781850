#include "core/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace dalle {

double Schedule::at(int64_t step) const {
  if (shape == ScheduleShape::kConstant || step >= steps) return to;
  const double progress =
      static_cast<double>(std::max<int64_t>(step, 0)) / static_cast<double>(steps);
  const auto blend = [&](double weight_of_from) { return to + (from - to) * weight_of_from; };
  switch (shape) {
    case ScheduleShape::kLinear:
      return blend(1 - progress);
    case ScheduleShape::kHalfCosine:
      return blend((1 + std::cos(std::numbers::pi * progress)) / 2);
    case ScheduleShape::kQuarterCosine:
      return blend(std::cos(std::numbers::pi / 2 * progress));
    case ScheduleShape::kConstant:
      break;
  }
  throw Error("unknown schedule shape {}", static_cast<int>(shape));
}

}  // namespace dalle
