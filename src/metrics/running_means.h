#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dalle {

/// Means of named values over several steps, in the order in which the names were first added.
class RunningMeans {
 public:
  struct Entry {
    std::string name;
    double sum = 0;
    int64_t count = 0;
  };

  /// Adds `count` values whose mean is `mean`.
  void add(std::string_view name, double mean, int64_t count = 1);
  /// Adds all values of others.
  void add(const RunningMeans& others);
  void clear() { entries_.clear(); }
  bool empty() const { return entries_.empty(); }

  /// @throws std::logic_error if nothing was added under the name
  double mean(std::string_view name) const;
  std::vector<std::pair<std::string, double>> means() const;

  /// The complete state, for checkpoints.
  const std::vector<Entry>& entries() const { return entries_; }
  void restore(std::vector<Entry> entries) { entries_ = std::move(entries); }

 private:
  Entry& entry_of(std::string_view name);

  std::vector<Entry> entries_;
};

}  // namespace dalle
