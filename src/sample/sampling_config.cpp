#include "sample/sampling_config.h"

#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/number_range.h"

namespace dalle {

void check_sampling(const SamplingConfig& sampling) {
  SamplingConfig::fields(sampling, [](std::string_view key, auto value, const Field& field) {
    check_in_range(key, static_cast<double>(value), field.min, field.max);
  });
  std::vector<ConfigConflict> conflicts;
  sampling.validate(ConfigChecks(conflicts));
  for (const ConfigConflict& conflict : conflicts)
    throw Error("{}: {}", conflict.key, conflict.message);
}

}  // namespace dalle
