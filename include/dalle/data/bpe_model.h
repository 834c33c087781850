#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// What a piece of a vocabulary is for; the values are those of sentencepiece's model files.
enum class PieceKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

/// One entry of a vocabulary; its place in the list is its token id.
struct Piece {
  std::string text;  ///< UTF-8; a blank is U+2581; byte pieces are written <0x41>
  float score = 0;   ///< of two possible merges the one with the higher score comes first
  PieceKind kind = PieceKind::kNormal;
};

/// The vocabulary of a sentencepiece model, which is a protocol buffer.
///
/// Everything that sentencepiece itself believes without looking is checked here: it follows the
/// offsets of the normalisation table unchecked and ends the process over a model of a type that it
/// does not know, so a damaged file must not reach it.
///
/// @param model  the bytes of a sentencepiece .model file
/// @throws dalle::Error if they are no sentencepiece model, one of another type than BPE, one
/// without byte fallback or with pieces taken out of use, or if they are damaged
/// Source: sentencepiece 0.1.97, sentencepiece_model.proto
std::vector<Piece> read_bpe_model(std::string_view model);

}  // namespace dalle
