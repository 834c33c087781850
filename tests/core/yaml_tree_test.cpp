#include "core/config/yaml_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

using testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    parse_yaml(text);
  } catch (const YamlError& error) {
    return fmt::format("{}:{}: {}", error.place.line, error.place.column, error.what());
  }
  return "none";
}

TEST(YamlTree, KeepsScalarsAsTheyAreWritten) {
  const YamlNode list = parse_yaml("[010, '010', yes, \"a\\tb\", ~, null, 1e5, !!str 5]");
  ASSERT_EQ(list.children.size(), 8u);
  EXPECT_EQ(list.children[0].text, "010");
  EXPECT_FALSE(list.children[0].is_quoted);
  EXPECT_EQ(list.children[1].text, "010");
  EXPECT_TRUE(list.children[1].is_quoted);
  EXPECT_EQ(list.children[2].text, "yes");
  EXPECT_EQ(list.children[3].text, "a\tb");
  EXPECT_EQ(list.children[4].kind, YamlNode::Kind::kNull);
  EXPECT_EQ(list.children[5].kind, YamlNode::Kind::kNull);
  EXPECT_EQ(list.children[6].text, "1e5");
  EXPECT_TRUE(list.children[7].is_quoted);
}

TEST(YamlTree, KeepsRepeatedKeysInOrderAndWithTheirPlaces) {
  const YamlNode map = parse_yaml("b: 1\na:\n  c: [2]\nb: 3\n");
  ASSERT_EQ(map.kind, YamlNode::Kind::kMap);
  ASSERT_EQ(map.children.size(), 6u);
  EXPECT_EQ(map.children[0].text, "b");
  EXPECT_EQ(map.children[2].text, "a");
  EXPECT_EQ(map.children[4].text, "b");
  EXPECT_EQ(map.children[4].place.line, 4);
  EXPECT_EQ(map.children[4].place.column, 1);
  const YamlNode& nested = map.children[3];
  EXPECT_EQ(nested.children[1].children[0].place.line, 3);
  EXPECT_EQ(nested.children[1].children[0].place.column, 7);
}

TEST(YamlTree, IsNullForTextWithoutADocument) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "\xef\xbb\xbf"})
    EXPECT_EQ(parse_yaml(text).kind, YamlNode::Kind::kNull) << text;
}

TEST(YamlTree, CopiesWhatAliasesName) {
  const YamlNode map = parse_yaml("a: &x {k: [1, 2]}\nb: *x\n");
  const YamlNode& copy = map.children[3];
  ASSERT_EQ(copy.kind, YamlNode::Kind::kMap);
  EXPECT_EQ(copy.children[1].children[1].text, "2");
}

TEST(YamlTree, NamesTheReasonAndPlaceOfAnError) {
  EXPECT_THAT(error_of("a: [1, 2\nb: 3\n"), HasSubstr("found a YAML syntax error: "));
  EXPECT_THAT(error_of("a: 1\n  b: 2\n"), HasSubstr("2:4: found a YAML syntax error: "));
  EXPECT_THAT(error_of("a: *nothing"), HasSubstr("1:4: found a YAML syntax error: "));
  EXPECT_THAT(error_of("a: \"open"), HasSubstr("found a YAML syntax error: "));
  EXPECT_EQ(error_of("a: 1\n---\nb: 2\n"), "2:1: found a second YAML document, expected one");
  EXPECT_EQ(error_of("a: !colour red"), "1:4: found the YAML tag !colour, expected none");
  EXPECT_EQ(error_of("a: !set {b}"), "1:4: found the YAML tag !set, expected none");
  EXPECT_EQ(error_of("a: &x [*x]"), "1:8: found a recursive alias");
}

TEST(YamlTree, RefusesAliasesThatMultiply) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    text += fmt::format("a{0}: &a{0} [", i);
    for (int j = 0; j < 10; ++j) text += fmt::format("{}*a{}", j == 0 ? "" : ", ", i - 1);
    text += "]\n";
  }
  EXPECT_THAT(error_of(text), HasSubstr("found aliases that stand for more than 100000 values"));
}

TEST(YamlTree, RefusesNestingWithoutEnd) {
  EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("found a YAML syntax error"));
}

TEST(YamlTree, SurvivesDamagedText) {
  const std::string good = "a: {b: [1, 'two', \"thr\\x65e\"], c: &x ~}\nd: *x\n? e\n: |\n  text\n";
  parse_yaml(good);
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i)
    for (const char damage : {'\0', '\xff', '{', ']', '"', '\'', ':', '\n', '\t', '&', '%'}) {
      std::string text = good;
      text[i] = damage;
      try {
        parse_yaml(text);
      } catch (const YamlError&) {
        ++refused;
      }
    }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace dalle
