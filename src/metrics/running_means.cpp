#include "metrics/running_means.h"

#include <algorithm>

#include "core/error.h"

namespace dalle {

void RunningMeans::add(std::string_view name, double mean, int64_t count) {
  Entry& entry = entry_of(name);
  entry.sum += mean * static_cast<double>(count);
  entry.count += count;
}

void RunningMeans::add(const RunningMeans& others) {
  for (const Entry& other : others.entries_) {
    Entry& entry = entry_of(other.name);
    entry.sum += other.sum;
    entry.count += other.count;
  }
}

RunningMeans::Entry& RunningMeans::entry_of(std::string_view name) {
  auto entry = std::ranges::find(entries_, name, &Entry::name);
  if (entry == entries_.end()) entry = entries_.insert(entry, {std::string(name), 0.0, 0});
  return *entry;
}

double RunningMeans::mean(std::string_view name) const {
  const auto entry = std::ranges::find(entries_, name, &Entry::name);
  DALLE_CHECK(entry != entries_.end());
  return entry->sum / static_cast<double>(entry->count);
}

std::vector<std::pair<std::string, double>> RunningMeans::means() const {
  std::vector<std::pair<std::string, double>> means;
  for (const Entry& entry : entries_)
    means.emplace_back(entry.name, entry.sum / static_cast<double>(entry.count));
  return means;
}

}  // namespace dalle
