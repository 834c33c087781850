#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace dalle {

/// A generated image and how well it fits its caption.
/// @tparam Content  what is kept of the image: its codes or its pixels
template <class Content>
struct Candidate {
  int64_t number = 0;  ///< the image's index among those of its seed
  double score = 0;    ///< higher is better
  Content content;
};

/// The candidates with the highest scores among those that were added, in any order. Memory does
/// not depend on how many were added.
/// Source: Ramesh et al. 2021, section 2.6, which keeps the best of 512 by a contrastive model
template <class Content>
class BestCandidates {
 public:
  /// @param count  to keep, at least 1
  explicit BestCandidates(int64_t count) : count_(count) {}

  void add(Candidate<Content> candidate) {
    ++added_;
    const auto is_better = [](const Candidate<Content>& a, const Candidate<Content>& b) {
      return a.score != b.score ? a.score > b.score : a.number < b.number;
    };
    const auto place = std::ranges::upper_bound(best_, candidate, is_better);
    if (place == best_.end() && static_cast<int64_t>(best_.size()) == count_) return;
    best_.insert(place, std::move(candidate));
    if (static_cast<int64_t>(best_.size()) > count_) best_.pop_back();
  }

  int64_t added() const { return added_; }

  /// Best first; among equal scores, the lower number first.
  const std::vector<Candidate<Content>>& best() const { return best_; }

 private:
  int64_t count_;
  int64_t added_ = 0;
  std::vector<Candidate<Content>> best_;
};

}  // namespace dalle
