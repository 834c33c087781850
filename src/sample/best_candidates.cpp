#include "sample/best_candidates.h"

#include <algorithm>
#include <utility>

namespace dalle {

void BestCandidates::add(Candidate candidate) {
  ++added_;
  const auto is_better = [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.number < b.number;
  };
  const auto place = std::ranges::upper_bound(best_, candidate, is_better);
  if (place == best_.end() && static_cast<int64_t>(best_.size()) == count_) return;
  best_.insert(place, std::move(candidate));
  if (static_cast<int64_t>(best_.size()) > count_) best_.pop_back();
}

}  // namespace dalle
