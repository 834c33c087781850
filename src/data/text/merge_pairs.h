#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

namespace dalle {

/// A part of a text: a token, or a character without a token, which is -1.
struct BpeSymbol {
  size_t begin = 0;
  size_t size = 0;  ///< in bytes
  int64_t token = -1;
};

/// What becomes of two adjacent symbols.
struct BpeMerge {
  double priority = 0;
  int64_t token = 0;
};

/// Merges adjacent symbols until no pair is left to merge: the pair of the highest priority first,
/// and the leftmost of equal ones.
///
/// @param symbols   without empty ones
/// @param merge_of  of two adjacent symbols; std::nullopt if they stay apart
/// @param skips     called before each merge; true skips it: the pair is then only considered again
///                  if one of its symbols has been merged with another
template <class MergeOf, class Skips>
void merge_pairs(std::vector<BpeSymbol>& symbols, const MergeOf& merge_of, const Skips& skips) {
  struct Candidate {
    BpeMerge merge;
    size_t left, right;
    size_t size;  // of both; a mismatch shows that one of them was merged since

    bool operator<(const Candidate& other) const {  // std::priority_queue returns the largest first
      return std::pair(merge.priority, other.left) < std::pair(other.merge.priority, left);
    }
  };
  const size_t count = symbols.size();  // also stands for "none"
  std::vector<size_t> before(count), after(count);
  std::priority_queue<Candidate> candidates;
  const auto propose = [&](size_t left, size_t right) {
    if (left == count || right == count) return;
    if (const std::optional<BpeMerge> merge = merge_of(symbols[left], symbols[right]))
      candidates.push({*merge, left, right, symbols[left].size + symbols[right].size});
  };
  for (size_t i = 0; i < count; ++i) {
    before[i] = i == 0 ? count : i - 1;
    after[i] = i + 1;
    propose(before[i], i);
  }
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    BpeSymbol &left = symbols[best.left], &right = symbols[best.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    if (skips()) continue;
    left.size = best.size;
    left.token = best.merge.token;
    right.size = 0;
    const size_t next = after[best.left] = after[best.right];
    if (next != count) before[next] = best.left;
    propose(before[best.left], best.left);
    propose(best.left, next);
  }
  std::erase_if(symbols, [](const BpeSymbol& symbol) { return symbol.size == 0; });
}

}  // namespace dalle
