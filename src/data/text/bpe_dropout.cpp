#include "data/text/bpe_dropout.h"

#include <charconv>
#include <queue>
#include <string>

#include "core/error.h"
#include "core/utf8.h"

namespace dalle {
namespace {

constexpr int kNone = -1;

/// A part of the text that is one token, or a character without a token, encoded as bytes.
struct Symbol {
  size_t begin = 0;
  size_t size = 0;  ///< 0 after it was merged into its left neighbor
  int token = kNone;
  int left = kNone;
  int right = kNone;
};

/// Two adjacent symbols that form a piece.
struct MergeCandidate {
  float score;
  int left;
  int right;
  size_t size;  ///< of the piece; a mismatch shows that one of the symbols was merged since
  int token;

  bool operator<(
      const MergeCandidate& other) const {  // std::priority_queue returns the largest first
    return score < other.score || (score == other.score && left > other.left);
  }
};

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
  std::vector<Symbol> symbols;
};

SplitText split(std::span<const int> characters, const std::vector<Piece>& vocabulary) {
  SplitText result;
  result.symbols.reserve(characters.size());
  const auto add = [&result](std::string_view text, int token) {
    const int index = static_cast<int>(result.symbols.size());
    result.symbols.push_back({result.text.size(), text.size(), token, index - 1, index + 1});
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
  if (!result.symbols.empty()) result.symbols.back().right = kNone;
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
  auto [text, symbols] = split(characters, vocabulary_);
  const auto at = [&symbols = symbols](int index) -> Symbol& {
    return symbols[static_cast<size_t>(index)];
  };
  const auto never_merges = [&](const Symbol& symbol) {
    return symbol.token != kNone &&
           vocabulary_[static_cast<size_t>(symbol.token)].kind == PieceKind::kUserDefined;
  };

  std::priority_queue<MergeCandidate> candidates;
  const auto propose = [&, &text = text](int left, int right) {
    if (left == kNone || right == kNone) return;
    if (never_merges(at(left)) || never_merges(at(right))) return;
    const size_t size = at(left).size + at(right).size;
    const auto found = tokens_.find(std::string_view(text).substr(at(left).begin, size));
    if (found == tokens_.end()) return;
    const float score = vocabulary_[static_cast<size_t>(found->second)].score;
    candidates.push({score, left, right, size, found->second});
  };
  for (int right = 1; right < static_cast<int>(symbols.size()); ++right) propose(right - 1, right);

  while (!candidates.empty()) {
    const MergeCandidate best = candidates.top();
    candidates.pop();
    Symbol& left = at(best.left);
    Symbol& right = at(best.right);
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    if (dropout > 0 && random.uniform() < dropout) continue;
    left.size = best.size;
    left.token = best.token;
    left.right = right.right;
    right.size = 0;
    if (left.right != kNone) at(left.right).left = best.left;
    propose(left.left, best.left);
    propose(best.left, left.right);
  }

  std::vector<int64_t> tokens;
  for (int i = symbols.empty() ? kNone : 0; i != kNone; i = at(i).right) {
    const Symbol& symbol = at(i);
    if (symbol.token != kNone) {
      tokens.push_back(symbol.token);
      continue;
    }
    for (size_t k = 0; k < symbol.size; ++k)
      tokens.push_back(byte_tokens_[static_cast<uint8_t>(text[symbol.begin + k])]);
  }
  return tokens;
}

}  // namespace dalle
