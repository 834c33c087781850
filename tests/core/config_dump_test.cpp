// Configs as YAML, and their differences.

#include <array>
#include <limits>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/everything_config.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Everything unusual() {
  Everything config;
  config.flag = true;
  config.count = std::numeric_limits<int64_t>::min();
  config.ratio = -0.0;
  config.text = "0x10: #\n\t\"quoted\\\" \x01 caf\u00e9 ";
  config.fruit = Fruit::kSourCherry;
  config.floor = 1.0 / 3;
  config.dessert = Fruit::kSourCherry;
  config.sizes = {};
  config.basket = {Fruit::kSourCherry, Fruit::kApple};
  config.captions = {"a red circle", "", "no", "~", "12", "1e5", "[x]", "a: b", "- x", " y"};
  config.switches = {true, false};
  config.layers = {{.width = 5, .name = "first"}, {.width = 6, .name = "*second"}};
  config.layer.name = "null";
  config.train.steps = 7;
  config.train.rate = 4.5e-4;
  return config;
}

TEST(ConfigDump, DumpsEveryKeyInOrder) {
  EXPECT_EQ(dump_config(unusual()), R"(flag: true
count: -9223372036854775808
ratio: -0.0
text: "0x10: #\n\t\"quoted\\\" \x01 café "
fruit: sour_cherry
floor: 0.3333333333333333
dessert: sour_cherry
sizes: []
basket: [sour_cherry, apple]
captions: [a red circle, "", "no", "~", "12", "1e5", "[x]", "a: b", "- x", " y"]
switches: [true, false]
layers:
  - width: 5
    name: first
  - width: 6
    name: "*second"
layer:
  width: 8
  name: "null"
train:
  steps: 7
  rate: 0.00045
  is_long: true
)");
}

TEST(ConfigDump, LoadsWhatItDumpedAndDumpsTheSameBytesAgain) {
  for (const Everything& config : {Everything{}, unusual()}) {
    const std::string text = dump_config(config);
    const Everything again = load(text);
    EXPECT_EQ(again, config);
    EXPECT_EQ(dump_config(again), text);
  }
}

TEST(ConfigDump, LoadsEveryTextThatItDumped) {
  Everything config;
  for (int byte = 1; byte < 128; ++byte) {
    const std::string character(1, static_cast<char>(byte));
    for (const std::string& text : {character, "a" + character, character + "a",
                                    "a" + character + "b", character + " " + character})
      config.captions.push_back(text);
  }
  for (const char* word : {"true", "False", "NULL", "y", "No", "off", "nan", ".inf", "1:30", "0o7",
                           "2024-01-01", "---", "caf\u00e9", "{0..9}.tar", "/data/x y.tar"})
    config.captions.push_back(word);
  const Everything again = load(dump_config(config));
  ASSERT_EQ(again.captions.size(), config.captions.size());
  for (size_t i = 0; i < config.captions.size(); ++i)
    EXPECT_EQ(again.captions[i], config.captions[i]) << i;
}

TEST(ConfigDump, DumpsNumbersThatReadBackExactly) {
  const std::array<std::pair<double, const char*>, 9> numbers = {{{1.0, "1.0"},
                                                                  {0.1, "0.1"},
                                                                  {1e-8, "1.0e-8"},
                                                                  {4.5e-4, "0.00045"},
                                                                  {2.5e-5, "2.5e-5"},
                                                                  {1e300, "1.0e+300"},
                                                                  {123456.0, "123456.0"},
                                                                  {5e-324, "5.0e-324"},
                                                                  {0.0, "0.0"}}};
  for (const auto& [number, text] : numbers) {
    EXPECT_EQ(dump_inline({number}), text);
    EXPECT_EQ(load(fmt::format("floor: {}", text)).floor, number);
  }
}

TEST(ConfigDump, DumpsMapsOnOneLine) {
  EXPECT_EQ(dump_inline(to_config_value(Layer{.width = 2, .name = "a, b"})),
            "{width: 2, name: \"a, b\"}");
  EXPECT_EQ(dump_inline({}), "null");
}

TEST(ConfigDump, ListsChangedKeysWithBothValues) {
  Everything other = unusual();
  EXPECT_THAT(diff_configs(other, other), testing::IsEmpty());
  other.train.steps = 8;
  other.basket = {};
  other.floor.reset();
  EXPECT_THAT(diff_configs(unusual(), other),
              ElementsAre(ConfigChange{"floor", "0.3333333333333333", "null"},
                          ConfigChange{"basket", "[sour_cherry, apple]", "[]"},
                          ConfigChange{"train.steps", "7", "8"}));
}

TEST(ConfigDump, LeavesIgnoredKeysAndThoseBelowThemOutOfADifference) {
  Everything other;
  other.train.steps = 8;
  other.train.rate = 0.5;
  other.layer.width = 3;
  other.layers = {{}};
  const std::array<std::string_view, 2> ignored = {"train.steps", "layer"};
  EXPECT_THAT(diff_configs(Everything{}, other, ignored),
              ElementsAre(ConfigChange{"layers", "[]", "[{width: 8, name: plain}]"},
                          ConfigChange{"train.rate", "1.0e-8", "0.5"}));
}

}  // namespace
}  // namespace dalle
