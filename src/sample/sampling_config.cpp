#include "sample/sampling_config.h"

#include <string_view>
#include <vector>

#include "core/error.h"

namespace dalle {

void check_sampling(const SamplingConfig& sampling) {
  SamplingConfig::fields(sampling, [](std::string_view key, auto value, const Field& field) {
    const auto number = static_cast<double>(value);
    if (!(number >= field.min && number <= field.max))
      throw Error("{}: found {}, expected a number from {} to {}", key, value, field.min,
                  field.max);
  });
  std::vector<ConfigConflict> conflicts;
  sampling.validate(ConfigChecks(conflicts));
  for (const ConfigConflict& conflict : conflicts)
    throw Error("{}: {}", conflict.key, conflict.message);
}

}  // namespace dalle
