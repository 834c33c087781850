#include "model/bottleneck_config.h"

#include <limits>

#include "core/config/config_io.h"

namespace dalle {

void require_defaults(const VqConfig& vq, BottleneckKind bottleneck, const ConfigChecks& checks) {
  for (const auto& [key, standard, found] : diff_configs(VqConfig{}, vq))
    checks.require(false, "vq." + key, {"bottleneck"}, "found {}, expected {}, since {} is {}",
                   found, standard, checks.path("bottleneck"), to_string(bottleneck));
}

std::vector<int64_t> default_fsq_levels(int64_t vocab_size) {
  switch (vocab_size) {
    case 64:
      return {8, 8};
    case 256:
      return {16, 16};
    case 512:
      return {8, 8, 8};
    case 1024:
      return {16, 8, 8};
    case 4096:
      return {8, 8, 8, 8};
    case 8192:
      return {16, 8, 8, 8};
    case 16384:
      return {16, 16, 8, 8};
    case 65536:
      return {16, 8, 8, 8, 8};
    default:
      return {};
  }
}

int64_t product_of(const std::vector<int64_t>& levels) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  int64_t product = 1;
  for (const int64_t level : levels) {
    if (level > kMost / product) return kMost;
    product *= level;
  }
  return product;
}

}  // namespace dalle
