#include "data/text/bpe_dropout.h"

#include <charconv>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/utf8.h"
#include "data/text/merge_pairs.h"

namespace dalle {
namespace {

constexpr int kNone = -1;

/// The value of a byte piece, which is written <0x41>.
uint8_t byte_of(const Piece& piece) {
  const std::string& text = piece.text;
  uint8_t value = 0;
  const bool has_form = text.size() == 6 && text.starts_with("<0x") && text.ends_with('>');
  const auto [end, error] = has_form ? std::from_chars(text.data() + 3, text.data() + 5, value, 16)
                                     : std::from_chars_result{nullptr, std::errc::invalid_argument};
  if (error != std::errc() || end != text.data() + 5)
    throw Error("byte piece {:?}: expected a form like <0x41>", text);
  return value;
}

/// The text of some tokens and its symbols.
struct SplitText {
  std::string text;
  std::vector<BpeSymbol> symbols;
};

SplitText split(std::span<const int> characters, const std::vector<Piece>& vocabulary) {
  SplitText result;
  result.symbols.reserve(characters.size());
  const auto add = [&result](std::string_view text, int token) {
    result.symbols.push_back({result.text.size(), text.size(), token});
    result.text += text;
  };
  size_t missing_bytes = 0;  // of a character that is encoded as bytes
  for (const int token : characters) {
    DALLE_CHECK(token >= 0 && token < static_cast<int>(vocabulary.size()));
    const Piece& piece = vocabulary[static_cast<size_t>(token)];
    if (piece.kind != PieceKind::kByte) {
      missing_bytes = 0;
      add(piece.text, token);
      continue;
    }
    const char byte = static_cast<char>(byte_of(piece));
    if (missing_bytes == 0) {
      add({&byte, 1}, kNone);
      missing_bytes = utf8_length(byte) - 1;
    } else {
      result.text += byte;
      ++result.symbols.back().size;
      --missing_bytes;
    }
  }
  return result;
}

}  // namespace

BpeMerges::BpeMerges(std::vector<Piece> vocabulary) : vocabulary_(std::move(vocabulary)) {
  byte_tokens_.fill(kNone);
  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    const Piece& piece = vocabulary_[i];
    const int token = static_cast<int>(i);
    if (piece.kind == PieceKind::kByte) byte_tokens_[byte_of(piece)] = token;
    if (piece.kind == PieceKind::kNormal || piece.kind == PieceKind::kUserDefined)
      tokens_.emplace(piece.text, token);
  }
  for (size_t byte = 0; byte < byte_tokens_.size(); ++byte)
    if (byte_tokens_[byte] == kNone)
      throw Error("found no piece for byte {:#04x}, expected one for each of the 256 bytes", byte);
}

std::vector<int64_t> BpeMerges::merge(std::span<const int> characters, double dropout,
                                      SeedStream& random) const {
  DALLE_CHECK(dropout >= 0 && dropout <= 1);
  auto [split_text, symbols] = split(characters, vocabulary_);
  const std::string_view text = split_text;
  const auto never_merges = [&](const BpeSymbol& symbol) {
    return symbol.token != kNone &&
           vocabulary_[static_cast<size_t>(symbol.token)].kind == PieceKind::kUserDefined;
  };
  const auto merge_of = [&](const BpeSymbol& left,
                            const BpeSymbol& right) -> std::optional<BpeMerge> {
    if (never_merges(left) || never_merges(right)) return std::nullopt;
    const auto found = tokens_.find(text.substr(left.begin, left.size + right.size));
    if (found == tokens_.end()) return std::nullopt;
    return BpeMerge{vocabulary_[static_cast<size_t>(found->second)].score, found->second};
  };
  merge_pairs(symbols, merge_of, [&] { return dropout > 0 && random.uniform() < dropout; });

  std::vector<int64_t> tokens;
  for (const BpeSymbol& symbol : symbols) {
    if (symbol.token != kNone) {
      tokens.push_back(symbol.token);
      continue;
    }
    for (const char byte : text.substr(symbol.begin, symbol.size))
      tokens.push_back(byte_tokens_[static_cast<uint8_t>(byte)]);
  }
  return tokens;
}

}  // namespace dalle
