#include "data/text/unicode.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace dalle {
namespace {

using namespace std::string_literals;

TEST(UnicodeTest, CodePointsAndUtf8AreInverse) {
  const std::u32string text = U"\0a\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff"s;
  ASSERT_EQ(text.size(), 9U);
  EXPECT_EQ(composed_lower_case(utf8_of(text)), text);
  EXPECT_EQ(utf8_of(U"\u20ac"), "\xe2\x82\xac");
}

TEST(UnicodeTest, KnowsLettersNumbersAndSpaces) {
  for (const char32_t letter : U"aZ\u00aa\u00df\u0294\u5317\U0001d400")
    EXPECT_TRUE(letter == 0 || kind_of(letter) == CharacterKind::kLetter) << uint32_t{letter};
  for (const char32_t number : U"09\u00b2\u0664\u2167\U0001d7d8")
    EXPECT_TRUE(number == 0 || kind_of(number) == CharacterKind::kNumber) << uint32_t{number};
  for (const char32_t space : U" \t\n\u0085\u00a0\u3000")
    EXPECT_TRUE(space == 0 || kind_of(space) == CharacterKind::kSpace) << uint32_t{space};
  for (const char32_t other : U"_'\u0301\u200b\U0001f600")
    EXPECT_EQ(kind_of(other), CharacterKind::kOther) << uint32_t{other};
}

TEST(UnicodeTest, ComposesLettersAndMarks) {
  const std::pair<std::u32string, std::u32string> forms[] = {
      {U"e\u0301 a\u030a", U"\u00e9 \u00e5"},
      {U"\u1fef\u037e", U"`;"},              // singletons
      {U"q\u0307\u0323", U"q\u0323\u0307"},  // marks by their class
      {U"a\u0301\u0301", U"\u00e1\u0301"},   // the second mark is blocked
      {U"a\u0315\u0301", U"\u00e1\u0315"},   // not by one of a higher class
      {U"\u0958", U"\u0915\u093c"},          // an exclusion
      {U"\u1112\u1161\u11ab\u1100\u1161", U"\ud55c\uac00"},
      {U"\ud55c\u11a8", U"\ud55c\u11a8"},  // it has a trailing consonant
      {U"\u0301a", U"\u0301a"},            // no letter before it
  };
  for (const auto& [text, composed] : forms)
    EXPECT_EQ(composed_lower_case(utf8_of(text)), composed);
}

TEST(UnicodeTest, LowersEachCharacterByItself) {
  const auto lower_case = [](std::u32string_view text) {
    return composed_lower_case(utf8_of(text));
  };
  EXPECT_EQ(lower_case(U"A\u00c5\u0130\u0141\u03a3\u1e9e\u2160\U00010400 a1"),
            U"a\u00e5i\u0307\u0142\u03c3\u00df\u2170\U00010428 a1");
  EXPECT_EQ(lower_case(U"\u0101\u0100\u0178\u01c5"), U"\u0101\u0101\u00ff\u01c6");
  EXPECT_EQ(lower_case(U"A\u030a\u212b\u2126"), U"\u00e5\u00e5\u03c9");  // of the composed ones
}

}  // namespace
}  // namespace dalle
