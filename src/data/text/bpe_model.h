#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// The kind of a piece; the values are those in sentencepiece's model files.
enum class PieceKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

/// An entry of a vocabulary. Its index is its token.
struct Piece {
  std::string text;  ///< UTF-8; a blank is U+2581; byte pieces are written <0x41>
  float score = 0;   ///< merges with higher scores come first
  PieceKind kind = PieceKind::kNormal;
};

/// Reads the vocabulary of a sentencepiece model, which is a protocol buffer.
///
/// Validates what sentencepiece does not: it follows the offsets of the normalization table without
/// bounds checks and aborts the process for unknown model types, so it must never load a corrupt
/// file.
///
/// @param model  the bytes of a sentencepiece .model file
/// @throws dalle::Error if they are corrupt or not a BPE model of sentencepiece, or if the model
///         has no byte fallback or has unused pieces
/// Source: sentencepiece 0.1.97, sentencepiece_model.proto
std::vector<Piece> read_bpe_model(std::string_view model);

}  // namespace dalle
