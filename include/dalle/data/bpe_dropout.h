#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dalle/core/seeds.h"
#include "dalle/data/bpe_model.h"

namespace dalle {

/// The merges of a BPE vocabulary, with BPE-dropout.
///
/// sentencepiece has the same walk, but draws from a generator of its own that cannot be seeded
/// again within a thread, so that no segmentation could be replayed.
class BpeMerges {
 public:
  explicit BpeMerges(std::vector<Piece> vocabulary);
  BpeMerges(BpeMerges&&) noexcept = default;
  BpeMerges& operator=(BpeMerges&&) noexcept = default;

  const std::vector<Piece>& vocabulary() const { return vocabulary_; }

  /// Joins neighbours into pieces, again and again: of all pairs that form a piece the one of the
  /// highest score, the leftmost of equals. Each time a pair's turn comes it is passed over with
  /// probability `dropout`, and comes up again only if one of the two has grown.
  ///
  /// @param characters  tokens of a text's single characters, bytes where a character has no piece
  /// @param dropout     in [0, 1]; 0 draws no random number
  /// @return            the tokens of the text's segmentation
  /// Source: Provilkov et al. 2020, algorithm 1, as in sentencepiece 0.1.97 (bpe_model.cc)
  std::vector<int64_t> merge(std::span<const int> characters, double dropout,
                             SeedStream& random) const;

 private:
  std::vector<Piece> vocabulary_;
  std::unordered_map<std::string_view, int> tokens_;  ///< of the pieces that merges can form
  std::array<int, 256> byte_tokens_{};
};

}  // namespace dalle
