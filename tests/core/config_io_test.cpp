#include "core/config/config_io.h"

#include <array>
#include <fstream>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/everything_config.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> problems_of(const std::string& text,
                                     const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> lines;
  try {
    load(text, overrides);
  } catch (const ConfigError& error) {
    std::string all;
    for (const ConfigProblem& problem : error.problems()) {
      lines.push_back(problem.text());
      all += (all.empty() ? "" : "\n") + lines.back();
    }
    EXPECT_EQ(error.what(), all);
  }
  return lines;
}

TEST(ConfigIo, LoadsEveryKindOfMember) {
  const Everything config = load(R"(
flag: true
count: 1e5
ratio: 2
text: 010 stays text
fruit: sour_cherry
floor: -0.5
dessert: apple
sizes: [3, 4e0]
basket:
  - apple
  - "sour_cherry"
captions: ['a: b', plain words, 12]
switches: [false, true]
layers: [{width: 3}, {name: second}]
layer: {width: 9}
train: {steps: 20, is_long: false}
)");
  Everything expected;
  expected.flag = true;
  expected.count = 100'000;
  expected.ratio = 2;
  expected.text = "010 stays text";
  expected.fruit = Fruit::kSourCherry;
  expected.floor = -0.5;
  expected.dessert = Fruit::kApple;
  expected.sizes = {3, 4};
  expected.basket = {Fruit::kApple, Fruit::kSourCherry};
  expected.captions = {"a: b", "plain words", "12"};
  expected.switches = {false, true};
  expected.layers = {{.width = 3}, {.name = "second"}};
  expected.layer.width = 9;
  expected.train.steps = 20;
  expected.train.is_long = false;
  EXPECT_EQ(config, expected);
}

TEST(ConfigIo, LeavesWhatIsNotNamedAtItsDefault) {
  EXPECT_EQ(load(""), Everything{});
  EXPECT_EQ(load("# nothing but a comment\n"), Everything{});
  EXPECT_EQ(load("train:\nlayer: {}\n"), Everything{});
  EXPECT_EQ(load("train: {steps: 5}").train.rate, 1e-8);
}

TEST(ConfigIo, ReadsAliases) {
  const Everything config = load("layers: [&a {width: 3}, *a]\nlayer: *a\n");
  EXPECT_EQ(config.layers, (std::vector<Layer>{{.width = 3}, {.width = 3}}));
  EXPECT_EQ(config.layer.width, 3);
}

TEST(ConfigIo, SetsNullOnlyWhereItIsAValue) {
  EXPECT_EQ(load("floor: 0.5\n", {"floor=null"}).floor, std::nullopt);
  EXPECT_EQ(load("dessert: ~\n").dessert, std::nullopt);
  EXPECT_THAT(problems_of("text:\ncount: null\nsizes: ~\n"),
              ElementsAre("x.yaml:1:1: text: found null, expected text",
                          "x.yaml:2:1: count: found null, expected an integer",
                          "x.yaml:3:1: sizes: found null, expected a list in [brackets]"));
}

TEST(ConfigIo, LoadsFiles) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "a.yaml") << "count: 4\n";
  const std::vector<std::string> overrides = {"ratio=1"};
  Everything config;
  apply(read_config_file(config_schema<Everything>(), folder / "a.yaml", overrides), config);
  EXPECT_EQ(config.count, 4);
  EXPECT_EQ(config.ratio, 1);
}

TEST(ConfigIo, NamesAFileThatCannotBeRead) {
  const TemporaryDirectory folder;
  const std::vector<std::string> overrides = {"count=many"};
  const auto message_of = [&](const std::filesystem::path& path) -> std::string {
    try {
      read_config_file(config_schema<Everything>(), path, overrides).throw_problems();
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "none";
  };
  const std::string of_override = "\n--set count=many: count: found many, expected an integer";
  EXPECT_EQ(
      message_of(folder / "no.yaml"),
      (folder / "no.yaml").string() + ": cannot read: No such file or directory" + of_override);
  EXPECT_EQ(message_of(folder.path()),
            folder.path().string() + ": expected a file, found a directory" + of_override);
}

TEST(ConfigIo, ReportsEveryProblemAtOnceInTheOrderOfTheFile) {
  EXPECT_THAT(
      problems_of("flag: yes\n"
                  "count: 1.5\n"
                  "fruit: pear\n"
                  "ratio: 3\n"
                  "train: {steps: 0, rates: 1}\n"
                  "flag: true\n"
                  "sizes: [1, -1, x]\n",
                  {"layer.width=0"}),
      ElementsAre("x.yaml:1:7: flag: found yes, expected true or false",
                  "x.yaml:2:8: count: found 1.5, expected an integer",
                  "x.yaml:3:8: fruit: found pear, expected one of apple, sour_cherry",
                  "x.yaml:4:8: ratio: found 3, expected a number of at most 2.5",
                  "x.yaml:5:16: train.steps: found 0, expected an integer from 1 to 1000000",
                  "x.yaml:5:19: train.rates: unknown key; "
                  "the nearest is train.rate",
                  "x.yaml:6:1: flag: duplicate key; first defined on line 1",
                  "x.yaml:7:12: sizes[1]: found -1, expected an integer of at least 0",
                  "x.yaml:7:16: sizes[2]: found x, expected an integer of at least 0",
                  "--set layer.width=0: layer.width: found 0, expected an integer of at least 1"));
}

struct WrongValue {
  const char* yaml;
  const char* problem;
};

class ConfigWrongValue : public testing::TestWithParam<WrongValue> {};

TEST_P(ConfigWrongValue, IsNamedWithWhatWasExpected) {
  EXPECT_THAT(problems_of(GetParam().yaml), ElementsAre(GetParam().problem));
}

INSTANTIATE_TEST_SUITE_P(
    Values, ConfigWrongValue,
    testing::Values(
        WrongValue{"count: 010",
                   "x.yaml:1:8: count: found 010, expected an integer without leading zeros"},
        WrongValue{"count: 1_000",
                   "x.yaml:1:8: count: found 1_000, expected an integer without underscores"},
        WrongValue{"count: '5'",
                   "x.yaml:1:8: count: found the text \"5\", expected an integer without quotes"},
        WrongValue{"count: 0x1F", "x.yaml:1:8: count: found 0x1F, expected an integer"},
        WrongValue{"count: 1e30",
                   "x.yaml:1:8: count: found 1e30, expected an integer that fits in 64 bits"},
        WrongValue{"count: 9223372036854775808",
                   "x.yaml:1:8: count: found 9223372036854775808, expected an integer that fits in "
                   "64 bits"},
        WrongValue{"count: [1]", "x.yaml:1:8: count: found a list, expected an integer"},
        WrongValue{"count: {a: 1}", "x.yaml:1:8: count: found a mapping, expected an integer"},
        WrongValue{
            "ratio: .nan",
            "x.yaml:1:8: ratio: found .nan, expected a number of at most 2.5 that is finite"},
        WrongValue{
            "ratio: -.inf",
            "x.yaml:1:8: ratio: found -.inf, expected a number of at most 2.5 that is finite"},
        WrongValue{"ratio: \"0.5\"",
                   "x.yaml:1:8: ratio: found the text \"0.5\", expected a number of at most 2.5 "
                   "without quotes"},
        WrongValue{"floor: -2",
                   "x.yaml:1:8: floor: found -2, expected a number of at least -1 or null"},
        WrongValue{"flag: 'true'",
                   "x.yaml:1:7: flag: found the text \"true\", expected true or false without "
                   "quotes"},
        WrongValue{"flag: True", "x.yaml:1:7: flag: found True, expected true or false"},
        WrongValue{"fruit: Apple",
                   "x.yaml:1:8: fruit: found Apple, expected one of apple, "
                   "sour_cherry"},
        WrongValue{"dessert: none",
                   "x.yaml:1:10: dessert: found none, expected one of apple, "
                   "sour_cherry or null"},
        WrongValue{"text: [a]", "x.yaml:1:7: text: found a list, expected text"},
        WrongValue{"sizes: 5", "x.yaml:1:8: sizes: found 5, expected a list in [brackets]"},
        WrongValue{"layer: 5", "x.yaml:1:8: layer: found 5, expected a mapping"},
        WrongValue{"layers: [5]", "x.yaml:1:10: layers[0]: found 5, expected a mapping"},
        WrongValue{"layers: [{width: 0}]",
                   "x.yaml:1:18: layers[0].width: found 0, expected an integer of at least 1"},
        WrongValue{"just words", "x.yaml:1:1: found just words, expected a mapping"},
        WrongValue{"[1, 2]", "x.yaml:1:1: found a list, expected a mapping"},
        WrongValue{"? [a]\n: 1\n", "x.yaml:1:3: found a list as a key, expected a name"},
        WrongValue{"~: 1\n", "x.yaml:1:1: found null as a key, expected a name"},
        WrongValue{"layer: {<<: {width: 2}}",
                   "x.yaml:1:9: layer.<<: found a merge key, expected keys written out; aliases "
                   "of whole values are fine"},
        WrongValue{"count: 1\n---\ncount: 2\n",
                   "x.yaml:2:1: found a second YAML document, expected one"},
        WrongValue{"count: !int 1", "x.yaml:1:8: found the YAML tag !int, expected none"},
        WrongValue{"count: *x",
                   "x.yaml:1:8: found a YAML syntax error: the referenced anchor is "
                   "not defined"}));

TEST(ConfigIo, CutsLongValuesInMessages) {
  EXPECT_THAT(problems_of("flag: " + std::string(500, 'x')),
              ElementsAre("x.yaml:1:7: flag: found " + std::string(60, 'x') +
                          "..., expected true or false"));
  // 20 bytes, then 20 characters of three bytes: the cut falls between two of them.
  std::string euros;
  for (int i = 0; i < 20; ++i) euros += "\u20ac";
  EXPECT_THAT(problems_of("flag: " + std::string(20, 'x') + euros),
              ElementsAre("x.yaml:1:7: flag: found " + std::string(20, 'x') + euros.substr(0, 39) +
                          "..., expected true or false"));
}

TEST(ConfigIo, KeepsMessagesOnOneLine) {
  EXPECT_THAT(problems_of("\"a\\nb\": 1"), ElementsAre(HasSubstr("x.yaml:1:1: a b: unknown key")));
  EXPECT_THAT(problems_of("", {"a\nb=1"}), ElementsAre(HasSubstr("--set a b=1: a b: unknown key")));
  EXPECT_THAT(problems_of("flag: \"a\\nb\""),
              ElementsAre("x.yaml:1:7: flag: found the text \"a b\", expected true or false "
                          "without quotes"));
}

TEST(ConfigIo, NamesTheKeyThatAnUnknownOneMeant) {
  EXPECT_THAT(problems_of("trian: {}"), ElementsAre(HasSubstr("trian: unknown key; the "
                                                              "nearest is train")));
  EXPECT_THAT(problems_of("steps: 3"), ElementsAre(HasSubstr("the nearest is train.steps")));
  EXPECT_THAT(problems_of("layer: {steps: 3}"),
              ElementsAre(HasSubstr("layer.steps: unknown key; "
                                    "the nearest is train.steps")));
  EXPECT_THAT(problems_of("layer: {zebras: 3}"),
              ElementsAre("x.yaml:1:9: layer.zebras: unknown key, expected one of width, "
                          "name"));
}

TEST(ConfigIo, AppliesOverridesInOrderAfterTheFile) {
  const Everything config =
      load("count: 1\ntrain: {steps: 5, rate: 0.5}\n",
           {"count=2", "train.steps=1e3", "basket=[apple]", "count = 3", "layer={name: x}",
            "layer.width=2", "floor=-1", "fruit=sour_cherry"});
  EXPECT_EQ(config.count, 3);
  EXPECT_EQ(config.train.steps, 1000);
  EXPECT_EQ(config.train.rate, 0.5);
  EXPECT_THAT(config.basket, ElementsAre(Fruit::kApple));
  EXPECT_EQ(config.layer, (Layer{.width = 2, .name = "x"}));
  EXPECT_EQ(config.floor, -1);
  EXPECT_EQ(config.fruit, Fruit::kSourCherry);
}

TEST(ConfigIo, TakesTextOfOverridesAsItStands) {
  for (const std::string text : {"images #2", "{00000..00001}.tar",
                                 "a: b",      "a=b",
                                 "!x",        "&x",
                                 "*x",        "%x",
                                 "@x",        "[x]",
                                 "'x'",       "\"x\"",
                                 "- x",       "x ",
                                 " x",        "null",
                                 "~",         "010",
                                 "true",      "",
                                 "a\nb",      "| x",
                                 "caf\u00e9"})
    EXPECT_EQ(load("", {"text=" + text}).text, text);
  EXPECT_EQ(load("", {"layer.name=#1"}).layer.name, "#1");
  EXPECT_EQ(load("", {"captions=['#1', b]"}).captions, (std::vector<std::string>{"#1", "b"}));
  EXPECT_THAT(problems_of("", {"text=caf\xe9"}),
              ElementsAre("--set text=caf\xe9: text: found an invalid byte at offset 3, "
                          "expected UTF-8"));
}

TEST(ConfigIo, SaysHowToNestADottedKey) {
  EXPECT_THAT(problems_of("train.steps: 5\nlayers: [{a.b: 1}]\n"),
              ElementsAre("x.yaml:1:1: train.steps: found a key with dots, expected nested "
                          "keys; nest steps: under train:",
                          HasSubstr("layers[0].a.b: unknown key")));
}

TEST(ConfigIo, KnowsTextWithoutAKey) {
  const ConfigSchema schema = config_schema<Everything>();
  for (const char* text : {"", "\n", "# count: 1\n", "---\n"})
    EXPECT_TRUE(read_config_text(schema, text, "x.yaml").is_empty) << text;
  for (const char* text : {"{}", "count: 1", "count:"})
    EXPECT_FALSE(read_config_text(schema, text, "x.yaml").is_empty) << text;
  EXPECT_FALSE(read_config_file(schema, "no-such.yaml").is_empty);
}

TEST(ConfigIo, ReportsWrongOverridesTogether) {
  EXPECT_THAT(
      problems_of("", {"count", "=5", "trian.steps=5", "train.steps.x=1", "train.steps=0",
                       "fruit=[", "count=010", "layer=5"}),
      ElementsAre(
          "--set count: found no key and value, expected key=value",
          "--set =5: found no key and value, expected key=value",
          "--set trian.steps=5: trian.steps: unknown key; "
          "the nearest is train.steps",
          "--set train.steps.x=1: train.steps.x: unknown key; "
          "the nearest is train.steps",
          "--set train.steps=0: train.steps: found 0, expected an integer from 1 to 1000000",
          testing::StartsWith("--set fruit=[: fruit: found a YAML syntax error: "),
          "--set count=010: count: found 010, expected an integer without leading zeros",
          "--set layer=5: layer: found 5, expected a mapping"));
}

TEST(ConfigIo, KeepsThePlaceWhereEachKeyWasSetLast) {
  const std::vector<std::string> overrides = {"train.steps=5"};
  const ConfigReading reading = read_config_text(
      config_schema<Everything>(), "train:\n  steps: 4\n  rate: 0.5\n", "x.yaml", overrides);
  EXPECT_EQ(reading.place_of("train.rate"), "x.yaml:3:9");
  EXPECT_EQ(reading.place_of("train.steps"), "--set train.steps=5");
  EXPECT_EQ(reading.place_of("count"), "");
}

}  // namespace
}  // namespace dalle
