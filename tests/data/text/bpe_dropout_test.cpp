#include "data/text/bpe_dropout.h"

#include <cmath>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "error_of.h"

namespace dalle {
namespace {

using testing::ElementsAre;

constexpr int kFirstPiece = 256;  // lower tokens are bytes

/// A vocabulary of all bytes and the given pieces, with decreasing scores.
std::vector<Piece> vocabulary(std::initializer_list<std::string_view> texts) {
  std::vector<Piece> pieces;
  for (int byte = 0; byte < 256; ++byte)
    pieces.push_back({fmt::format("<0x{:02X}>", byte), 0, PieceKind::kByte});
  float score = 0;
  for (const std::string_view text : texts) pieces.push_back({std::string(text), score--});
  return pieces;
}

std::vector<std::string> merge(const BpeMerges& merges, const std::vector<int>& characters,
                               double dropout = 0, uint64_t seed = 1) {
  SeedStream random(seed);
  std::vector<std::string> texts;
  for (const int64_t token : merges.merge(characters, dropout, random))
    texts.push_back(merges.vocabulary()[static_cast<size_t>(token)].text);
  return texts;
}

TEST(BpeMerges, MergesTheHighestScoreFirst) {
  const BpeMerges merges(vocabulary({"bc", "ab", "abc", "a", "b", "c"}));
  const int a = kFirstPiece + 3;
  EXPECT_THAT(merge(merges, {a, a + 1, a + 2}), ElementsAre("abc"));  // bc, then a + bc
  EXPECT_THAT(merge(merges, {a, a + 1, a + 1, a + 2}), ElementsAre("ab", "bc"));
}

TEST(BpeMerges, MergesTheLeftmostOfEqualScores) {
  const BpeMerges merges(vocabulary({"aa", "a"}));
  const int a = kFirstPiece + 1;
  EXPECT_THAT(merge(merges, {a, a, a}), ElementsAre("aa", "a"));
}

TEST(BpeMerges, NeedsEveryIntermediatePiece) {
  const BpeMerges merges(vocabulary({"abc", "a", "b", "c"}));  // neither ab nor bc
  const int a = kFirstPiece + 1;
  EXPECT_THAT(merge(merges, {a, a + 1, a + 2}), ElementsAre("a", "b", "c"));
}

TEST(BpeMerges, MergesACharacterInBytesOnlyAsAUnit) {
  const BpeMerges merges(vocabulary({"a\xc3\xa9", "a"}));
  const int a = kFirstPiece + 1;
  EXPECT_THAT(merge(merges, {a, 0xc3, 0xa9}), ElementsAre("a\xc3\xa9"));
  EXPECT_THAT(merge(merges, {0xc3, 0xa9, a, 0xe2, 0x96, 0x81}),
              ElementsAre("<0xC3>", "<0xA9>", "a", "<0xE2>", "<0x96>", "<0x81>"));
  EXPECT_THAT(merge(merges, {0xa9, 0xc3}),
              ElementsAre("<0xA9>", "<0xC3>"));  // invalid UTF-8 is unchanged
}

TEST(BpeMerges, UserDefinedPiecesNeverMerge) {
  std::vector<Piece> pieces = vocabulary({"ab", "a", "b"});
  pieces[kFirstPiece + 1].kind = PieceKind::kUserDefined;
  const BpeMerges merges(std::move(pieces));
  EXPECT_THAT(merge(merges, {kFirstPiece + 1, kFirstPiece + 2}), ElementsAre("a", "b"));
}

TEST(BpeMerges, ReturnsNothingForNoTokens) {
  const BpeMerges merges(vocabulary({"a"}));
  EXPECT_THAT(merge(merges, {}), ElementsAre());
  EXPECT_THAT(merge(merges, {kFirstPiece}), ElementsAre("a"));
}

TEST(BpeMerges, SkipsEachMergeWithTheGivenProbability) {
  const BpeMerges merges(vocabulary({"ab", "a", "b"}));
  const int a = kFirstPiece + 1;
  constexpr int kDraws = 20'000;
  for (const double dropout : {0.1, 0.5, 0.9}) {
    int dropped = 0;
    for (uint64_t seed = 0; seed < kDraws; ++seed)
      dropped += merge(merges, {a, a + 1}, dropout, seed).size() == 2 ? 1 : 0;
    const double error = std::sqrt(dropout * (1 - dropout) * kDraws);
    EXPECT_NEAR(dropped, dropout * kDraws, 4 * error);
  }
}

TEST(BpeMerges, SkippingAPairAllowsTheNextBest) {
  // "abc" is formed by ab + c or, if ab was skipped, by a + bc.
  const BpeMerges merges(vocabulary({"ab", "bc", "abc", "a", "b", "c"}));
  const int a = kFirstPiece + 3;
  constexpr double kDropout = 0.5;
  constexpr int kDraws = 20'000;
  int merged = 0;
  for (uint64_t seed = 0; seed < kDraws; ++seed)
    merged += merge(merges, {a, a + 1, a + 2}, kDropout, seed).size() == 1 ? 1 : 0;
  const double keep = 1 - kDropout;
  const double expected = keep * keep + kDropout * keep * keep;
  EXPECT_NEAR(merged, expected * kDraws, 4 * std::sqrt(expected * (1 - expected) * kDraws));
}

TEST(BpeMerges, UsesNoRandomNumbersWithoutDropout) {
  const BpeMerges merges(vocabulary({"ab", "a", "b"}));
  SeedStream random(7);
  SeedStream untouched(7);
  const std::vector<int> characters = {kFirstPiece + 1, kFirstPiece + 2};
  merges.merge(characters, 0, random);
  EXPECT_EQ(random(), untouched());
}

TEST(BpeMerges, RequiresAPieceForEachByte) {
  std::vector<Piece> pieces = vocabulary({"a"});
  pieces[0x41].kind = PieceKind::kNormal;
  EXPECT_EQ(error_of([&] { BpeMerges merges(pieces); }),
            "found no piece for byte 0x41, expected one for each of the 256 bytes");
}

}  // namespace
}  // namespace dalle
