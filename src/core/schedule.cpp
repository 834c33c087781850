#include "core/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dalle {

double Schedule::at(int64_t step) const {
  if (shape == ScheduleShape::kConstant || step >= steps) return to;
  const double progress =
      static_cast<double>(std::max<int64_t>(step, 0)) / static_cast<double>(steps);
  double weight_of_from = 1 - progress;
  if (shape == ScheduleShape::kHalfCosine)
    weight_of_from = (1 + std::cos(std::numbers::pi * progress)) / 2;
  if (shape == ScheduleShape::kQuarterCosine)
    weight_of_from = std::cos(std::numbers::pi / 2 * progress);
  return to + (from - to) * weight_of_from;
}

}  // namespace dalle
