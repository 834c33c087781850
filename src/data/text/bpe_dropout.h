#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/seeds.h"
#include "data/text/bpe_model.h"

namespace dalle {

/// The merges of a BPE vocabulary, with BPE-dropout.
///
/// sentencepiece implements the same algorithm, but its random generator cannot be reseeded within
/// a thread, so segmentations would not be reproducible.
class BpeMerges {
 public:
  explicit BpeMerges(std::vector<Piece> vocabulary);
  BpeMerges(BpeMerges&&) noexcept = default;
  BpeMerges& operator=(BpeMerges&&) noexcept = default;

  const std::vector<Piece>& vocabulary() const { return vocabulary_; }

  /// Repeatedly merges the adjacent pair of symbols that forms the piece with the highest score,
  /// and the leftmost of equal ones. Each time, the pair is skipped with probability `dropout`; it
  /// is then only considered again if one of its symbols has been merged with another.
  ///
  /// @param characters  one token per character, or per byte of characters without a piece
  /// @param dropout     in [0, 1]; 0 uses no random numbers
  /// @return            the tokens of the segmentation
  /// Source: Provilkov et al. 2020, algorithm 1, as in sentencepiece 0.1.97 (bpe_model.cc)
  std::vector<int64_t> merge(std::span<const int> characters, double dropout,
                             SeedStream& random) const;

 private:
  std::vector<Piece> vocabulary_;
  std::unordered_map<std::string_view, int> tokens_;  ///< of pieces that merges can form
  std::array<int, 256> byte_tokens_{};
};

}  // namespace dalle
