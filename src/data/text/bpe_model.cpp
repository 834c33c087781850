#include "data/text/bpe_model.h"

#include <algorithm>
#include <bit>

#include "core/bytes.h"
#include "core/error.h"

namespace dalle {
namespace {

uint32_t load_u32(std::string_view bytes, size_t offset) {
  return read_integer(bytes, offset, 4, ByteOrder::kLittle).value();
}

/// Iterates over the fields of a protocol buffer message.
class MessageReader {
 public:
  explicit MessageReader(std::string_view bytes) : remaining_(bytes) {}

  /// Moves to the next field; returns false at the end.
  bool next() {
    if (remaining_.empty()) return false;
    const uint64_t tag = take_varint();
    field_ = tag >> 3;
    switch (tag & 7) {
      case 0:
        number_ = take_varint();
        break;
      case 1:
        bytes_ = take(8);
        break;
      case 2:
        bytes_ = take(take_varint());
        break;
      case 5:
        bytes_ = take(4);
        break;
      default:
        throw Error("found a field of wire type {}, expected a sentencepiece model", tag & 7);
    }
    wire_type_ = tag & 7;
    return true;
  }

  uint64_t field() const { return field_; }

  uint64_t number() const {
    expect_wire_type(0);
    return number_;
  }
  std::string_view bytes() const {
    expect_wire_type(2);
    return bytes_;
  }
  float real() const {
    expect_wire_type(5);
    return std::bit_cast<float>(load_u32(bytes_, 0));
  }

 private:
  void expect_wire_type(uint64_t expected) const {
    if (wire_type_ != expected)
      throw Error("field {}: found wire type {}, expected {}; this is not a sentencepiece model",
                  field_, wire_type_, expected);
  }

  std::string_view take(uint64_t size) {
    if (size > remaining_.size())
      throw Error("found {} bytes of a field with {}: not a sentencepiece model, or truncated",
                  remaining_.size(), size);
    const std::string_view taken = remaining_.substr(0, size);
    remaining_.remove_prefix(size);
    return taken;
  }

  uint64_t take_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw Error("found a number of more than 64 bits, expected a sentencepiece model");
  }

  std::string_view remaining_;
  std::string_view bytes_;
  uint64_t number_ = 0;
  uint64_t field_ = 0;
  uint64_t wire_type_ = 0;
};

Piece read_piece(std::string_view message) {
  Piece piece;
  for (MessageReader reader(message); reader.next();) {
    if (reader.field() == 1) piece.text = reader.bytes();
    if (reader.field() == 2) piece.score = reader.real();
    if (reader.field() == 3) {
      if (reader.number() < 1 || reader.number() > 6)
        throw Error("piece {:?}: found type {}, expected 1 to 6", piece.text, reader.number());
      piece.kind = static_cast<PieceKind>(reader.number());
    }
  }
  return piece;
}

void check_trainer_spec(std::string_view message) {
  constexpr std::string_view kTypes[] = {"none", "unigram", "bpe", "word", "char"};
  constexpr uint64_t kBpe = 2;
  uint64_t type = 1;  // the default of sentencepiece
  uint64_t byte_fallback = 0;
  for (MessageReader reader(message); reader.next();) {
    if (reader.field() == 3) type = reader.number();
    if (reader.field() == 35) byte_fallback = reader.number();
  }
  if (type != kBpe)
    throw Error("found a model of type {}, expected bpe",
                type < std::size(kTypes) ? std::string(kTypes[type]) : std::to_string(type));
  if (byte_fallback == 0)
    throw Error(
        "found a BPE model without byte fallback, which has no tokens for some characters; train "
        "it with --byte_fallback");
}

/// Checks that lookups in the table of normal forms stay within its bounds for any input.
///
/// The table is a trie with shared suffixes, stored as an array of 32-bit units (Darts-clone). The
/// child of the unit at `node` for a byte is at `(node ^ offset) ^ byte` if that unit has the byte
/// as its label. If a sequence ends at `node`, the unit at `node ^ offset` has the position of its
/// normal form.
class CharacterMapCheck {
 public:
  explicit CharacterMapCheck(std::string_view map) {
    if (map.size() < 4 || load_u32(map, 0) > map.size() - 4) fail();
    const uint32_t trie_size = load_u32(map, 0);
    trie_ = map.substr(4, trie_size);
    forms_ = map.substr(4 + trie_size);
    count_ = trie_size / 4;
    if (trie_size % 4 != 0 || count_ == 0 || forms_.empty() || forms_.back() != '\0') fail();
    most_ends_.assign(count_, kUnvisited);
    if (visit(0, 0) > kMaxEnds) fail();
  }

 private:
  // The most prefixes of a sequence that have a normal form: the size of the array in which
  // sentencepiece stores them (Normalizer::kMaxTrieResultsSize).
  static constexpr int kMaxEnds = 32;
  static constexpr int kMaxDepth = 256;  // in bytes; sequences of real models have a few dozen
  static constexpr int kUnvisited = -1;
  static constexpr int kInProgress = -2;

  [[noreturn]] static void fail() {
    throw Error("the normalization table (precompiled_charsmap) is corrupt");
  }

  uint32_t unit(uint32_t index) const { return load_u32(trie_, size_t{4} * index); }

  /// @param depth  length of the path from the root to `node`
  /// @return       the most sequences that end on any path that begins at `node`
  int visit(uint32_t node, int depth) {
    if (most_ends_[node] >= 0) return most_ends_[node];
    if (most_ends_[node] == kInProgress || depth > kMaxDepth) fail();  // a cycle
    most_ends_[node] = kInProgress;
    const uint32_t here = unit(node);
    const uint32_t base = node ^ ((here >> 10) << ((here & (1U << 9)) >> 6));
    if ((base | 0xff) >= count_) fail();
    const bool ends_here = node != 0 && (here & (1U << 8)) != 0;
    if (ends_here && (unit(base) & 0x7fffffff) >= forms_.size()) fail();
    int most = 0;
    for (uint32_t byte = 0; byte < 256; ++byte)
      if ((unit(base ^ byte) & 0x800000ff) == byte)
        most = std::max(most, visit(base ^ byte, depth + 1));
    return most_ends_[node] = most + (ends_here ? 1 : 0);
  }

  std::string_view trie_;
  std::string_view forms_;
  uint32_t count_ = 0;
  std::vector<int> most_ends_;
};

void check_normalizer_spec(std::string_view message) {
  for (MessageReader reader(message); reader.next();)
    if (reader.field() == 2 && !reader.bytes().empty()) CharacterMapCheck(reader.bytes());
}

void check_pieces(const std::vector<Piece>& pieces) {
  if (pieces.empty()) throw Error("found no pieces, expected a sentencepiece model");
  for (const Piece& piece : pieces) {
    if (piece.kind == PieceKind::kUnused)
      throw Error("piece {:?}: marked as unused, which is not supported", piece.text);
    if (piece.kind == PieceKind::kUserDefined && piece.text.find('\0') != std::string::npos)
      throw Error("piece {:?}: user-defined pieces must not contain NUL", piece.text);
  }
}

}  // namespace

std::vector<Piece> read_bpe_model(std::string_view model) {
  std::vector<Piece> pieces;
  std::string_view trainer_spec;
  for (MessageReader reader(model); reader.next();) {
    if (reader.field() == 1) pieces.push_back(read_piece(reader.bytes()));
    if (reader.field() == 2) trainer_spec = reader.bytes();
    if (reader.field() == 3 || reader.field() == 5) check_normalizer_spec(reader.bytes());
  }
  check_trainer_spec(trainer_spec);
  check_pieces(pieces);
  return pieces;
}

}  // namespace dalle
