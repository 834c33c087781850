#include "model/bottleneck_config.h"

#include <limits>
#include <map>

#include "core/config/config_io.h"

namespace dalle {

void require_defaults(const VqConfig& vq, BottleneckKind bottleneck, const ConfigChecks& checks) {
  for (const auto& [key, standard, found] : diff_configs(VqConfig{}, vq))
    checks.require(false, "vq." + key, {"bottleneck"}, "found {}, expected {}, since {} is {}",
                   found, standard, checks.path("bottleneck"), to_string(bottleneck));
}

std::vector<int64_t> default_fsq_levels(int64_t vocab_size) {
  static const std::map<int64_t, std::vector<int64_t>> levels = {{64, {8, 8}},
                                                                 {256, {16, 16}},
                                                                 {512, {8, 8, 8}},
                                                                 {1024, {16, 8, 8}},
                                                                 {4096, {8, 8, 8, 8}},
                                                                 {8192, {16, 8, 8, 8}},
                                                                 {16384, {16, 16, 8, 8}},
                                                                 {65536, {16, 8, 8, 8, 8}}};
  const auto found = levels.find(vocab_size);
  return found == levels.end() ? std::vector<int64_t>() : found->second;
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
