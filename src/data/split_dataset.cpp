#include "data/split_dataset.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/seeds.h"

namespace dalle {
namespace {

/// FNV-1a. Source: Fowler, Noll and Vo
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char byte : text) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3ULL;
  return hash;
}

/// Maps a key to [0, 1); validation takes the smallest values. Does not depend on the experiment's
/// seed, so that runs with different seeds are validated on the same samples.
double split_value(std::string_view key) {
  constexpr uint64_t kNoSeed = 0;
  return to_unit(derive_seed(kNoSeed, SeedPurpose::kSplit, hash_of(key)));
}

}  // namespace

SplitDataset::SplitDataset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices)
    : dataset_(std::move(dataset)), indices_(std::move(indices)) {
  for (const int64_t index : indices_) DALLE_CHECK(index >= 0 && index < dataset_->size());
}

int64_t SplitDataset::index_in_dataset(int64_t index) const {
  DALLE_CHECK(index >= 0 && index < size());
  return indices_[index];
}

SplitIndices split_by_key(const Dataset& dataset, double validation_fraction) {
  DALLE_CHECK(dataset.size() > 0);
  if (dataset.size() == 1) return {.train = {0}, .validation = {0}};
  SplitIndices sides;
  std::pair<double, int64_t> first = {2.0, 0};
  std::pair<double, int64_t> last = {-1.0, 0};
  for (int64_t index = 0; index < dataset.size(); ++index) {
    const std::pair<double, int64_t> value = {split_value(dataset.key(index)), index};
    (value.first < validation_fraction ? sides.validation : sides.train).push_back(index);
    first = std::min(first, value);
    last = std::max(last, value);
  }
  if (sides.validation.empty()) {
    std::erase(sides.train, first.second);
    sides.validation = {first.second};
  } else if (sides.train.empty()) {
    std::erase(sides.validation, last.second);
    sides.train = {last.second};
  }
  return sides;
}

}  // namespace dalle
