#include "core/config_io.h"

#include <array>
#include <fstream>
#include <limits>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

enum class Fruit { kApple, kSourCherry };
constexpr auto enum_names(Fruit) {
  return std::array{std::pair{Fruit::kApple, std::string_view("apple")},
                    std::pair{Fruit::kSourCherry, std::string_view("sour_cherry")}};
}

struct Layer {
  int64_t width = 8;
  std::string name = "plain";
  bool operator==(const Layer&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("width", self.width, {.help = "width of the layer", .min = 1});
    visit("name", self.name, {.help = "its name"});
  }
};

struct Training {
  int64_t steps = 100;
  double rate = 1e-8;
  bool operator==(const Training&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("steps", self.steps,
          {.help = "number of steps", .min = 1, .max = 1e6, .paper = "430000 (B.2)"});
    visit("rate", self.rate, {.help = "step size", .min = 0, .max = 1});
  }
};

struct LongTraining : Training {
  bool is_long = true;
  bool operator==(const LongTraining&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    Training::fields(self, visit);
    visit("is_long", self.is_long, {.help = "whether it is long"});
  }
};

/// One member of every kind that a config may have.
struct Everything {
  bool flag = false;
  int64_t count = -3;
  double ratio = 0.1;
  std::string text = "";
  Fruit fruit = Fruit::kApple;
  std::optional<double> floor;
  std::optional<Fruit> dessert;
  std::vector<int64_t> sizes = {1, 2};
  std::vector<Fruit> basket;
  std::vector<std::string> captions;
  std::vector<bool> switches;
  std::vector<Layer> layers;
  Layer layer;
  LongTraining train;
  bool operator==(const Everything&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("flag", self.flag, {.help = "a flag"});
    visit("count", self.count, {.help = "a count"});
    visit("ratio", self.ratio, {.help = "a ratio", .max = 2.5});
    visit("text", self.text, {.help = "a text"});
    visit("fruit", self.fruit, {.help = "a fruit"});
    visit("floor", self.floor, {.help = "a floor", .min = -1, .paper = "null"});
    visit("dessert", self.dessert, {.help = "a dessert"});
    visit("sizes", self.sizes, {.help = "sizes", .min = 0});
    visit("basket", self.basket, {.help = "fruits"});
    visit("captions", self.captions, {.help = "captions"});
    visit("switches", self.switches, {.help = "switches"});
    visit("layers", self.layers, {.help = "layers"});
    visit("layer", self.layer, {.help = "one layer"});
    visit("train", self.train, {.help = "training"});
  }
};

Everything load(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return load_config_text<Everything>(text, "x.yaml", overrides);
}

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
  EXPECT_THAT(
      problems_of("text:\ncount: null\nsizes: ~\n"),
      ElementsAre("x.yaml:1:1: text: found nothing (null), expected text",
                  "x.yaml:2:1: count: found nothing (null), expected a whole number",
                  "x.yaml:3:1: sizes: found nothing (null), expected a list in [brackets]"));
}

TEST(ConfigIo, LoadsFiles) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "a.yaml") << "count: 4\n";
  const std::vector<std::string> overrides = {"ratio=1"};
  const auto config = load_config<Everything>(folder / "a.yaml", overrides);
  EXPECT_EQ(config.count, 4);
  EXPECT_EQ(config.ratio, 1);
}

TEST(ConfigIo, NamesAFileThatCannotBeRead) {
  const TemporaryDirectory folder;
  const std::vector<std::string> overrides = {"count=many"};
  const auto message_of = [&](const std::filesystem::path& path) -> std::string {
    try {
      load_config<Everything>(path, overrides);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "none";
  };
  const std::string of_override = "\n--set count=many: count: found many, expected a whole number";
  EXPECT_EQ(
      message_of(folder / "no.yaml"),
      (folder / "no.yaml").string() + ": cannot read: No such file or directory" + of_override);
  EXPECT_EQ(message_of(folder.path()),
            folder.path().string() + ": expected a file, found a directory" + of_override);
}

TEST(ConfigIo, ReportsEveryProblemAtOnceInTheOrderOfTheFile) {
  EXPECT_THAT(problems_of("flag: yes\n"
                          "count: 1.5\n"
                          "fruit: pear\n"
                          "ratio: 3\n"
                          "train: {steps: 0, rates: 1}\n"
                          "flag: true\n"
                          "sizes: [1, -1, x]\n",
                          {"layer.width=0"}),
              ElementsAre("x.yaml:1:7: flag: found yes, expected true or false",
                          "x.yaml:2:8: count: found 1.5, expected a whole number",
                          "x.yaml:3:8: fruit: found pear, expected one of apple, sour_cherry",
                          "x.yaml:4:8: ratio: found 3, expected a number of at most 2.5",
                          "x.yaml:5:16: train.steps: found 0, expected a whole number from 1 to "
                          "1000000",
                          "x.yaml:5:19: train.rates: found an unknown key, expected a known one; "
                          "the nearest is train.rate",
                          "x.yaml:6:1: flag: duplicate key; first defined on line 1",
                          "x.yaml:7:12: sizes[1]: found -1, expected a whole number of at least 0",
                          "x.yaml:7:16: sizes[2]: found x, expected a whole number of at least 0",
                          "--set layer.width=0: layer.width: found 0, expected a whole number of "
                          "at least 1"));
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
                   "x.yaml:1:8: count: found 010, expected a whole number without leading zeros"},
        WrongValue{"count: 1_000",
                   "x.yaml:1:8: count: found 1_000, expected a whole number without underscores"},
        WrongValue{"count: '5'",
                   "x.yaml:1:8: count: found the text \"5\", expected a whole number without "
                   "quotes"},
        WrongValue{"count: 0x1F", "x.yaml:1:8: count: found 0x1F, expected a whole number"},
        WrongValue{"count: 1e30",
                   "x.yaml:1:8: count: found 1e30, expected a whole number that fits in 64 bits"},
        WrongValue{"count: 9223372036854775808",
                   "x.yaml:1:8: count: found 9223372036854775808, expected a whole number that "
                   "fits in 64 bits"},
        WrongValue{"count: [1]", "x.yaml:1:8: count: found a list, expected a whole number"},
        WrongValue{"count: {a: 1}",
                   "x.yaml:1:8: count: found keys with values, expected a whole number"},
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
        WrongValue{"layer: 5", "x.yaml:1:8: layer: found 5, expected keys with values"},
        WrongValue{"layers: [5]", "x.yaml:1:10: layers[0]: found 5, expected keys with values"},
        WrongValue{"layers: [{width: 0}]",
                   "x.yaml:1:18: layers[0].width: found 0, expected a "
                   "whole number of at least 1"},
        WrongValue{"just words", "x.yaml:1:1: found just words, expected keys with values"},
        WrongValue{"[1, 2]", "x.yaml:1:1: found a list, expected keys with values"},
        WrongValue{"? [a]\n: 1\n", "x.yaml:1:3: found a list as a key, expected a name"},
        WrongValue{"~: 1\n", "x.yaml:1:1: found nothing (null) as a key, expected a name"},
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
  EXPECT_THAT(problems_of("\"a\\nb\": 1"), ElementsAre(HasSubstr("x.yaml:1:1: a b: found an unk")));
  EXPECT_THAT(problems_of("", {"a\nb=1"}),
              ElementsAre(HasSubstr("--set a b=1: a b: found an unk")));
  EXPECT_THAT(problems_of("flag: \"a\\nb\""),
              ElementsAre("x.yaml:1:7: flag: found the text \"a b\", expected true or false "
                          "without quotes"));
}

TEST(ConfigIo, NamesTheKeyThatAnUnknownOneMeant) {
  EXPECT_THAT(problems_of("trian: {}"),
              ElementsAre(HasSubstr("trian: found an unknown key, expected a known one; the "
                                    "nearest is train")));
  EXPECT_THAT(problems_of("steps: 3"), ElementsAre(HasSubstr("the nearest is train.steps")));
  EXPECT_THAT(problems_of("layer: {steps: 3}"),
              ElementsAre(HasSubstr("layer.steps: found an unknown key, expected a known one; "
                                    "the nearest is train.steps")));
  EXPECT_THAT(problems_of("layer: {zebras: 3}"),
              ElementsAre("x.yaml:1:9: layer.zebras: found an unknown key, expected one of width, "
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
                          HasSubstr("layers[0].a.b: found an unknown key")));
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
      ElementsAre("--set count: found no key and value, expected key=value",
                  "--set =5: found no key and value, expected key=value",
                  "--set trian.steps=5: trian.steps: found an unknown key, expected a known one; "
                  "the nearest is train.steps",
                  "--set train.steps.x=1: train.steps.x: found an unknown key, expected a known "
                  "one; the nearest is train.steps",
                  "--set train.steps=0: train.steps: found 0, expected a whole number from 1 to "
                  "1000000",
                  testing::StartsWith("--set fruit=[: fruit: found a YAML syntax error: "),
                  "--set count=010: count: found 010, expected a whole number without leading "
                  "zeros",
                  "--set layer=5: layer: found 5, expected keys with values"));
}

TEST(ConfigIo, KeepsThePlaceWhereEachKeyWasSetLast) {
  const std::vector<std::string> overrides = {"train.steps=5"};
  const ConfigReading reading = read_config_text(
      config_schema<Everything>(), "train:\n  steps: 4\n  rate: 0.5\n", "x.yaml", overrides);
  EXPECT_EQ(reading.place_of("train.rate"), "x.yaml:3:9");
  EXPECT_EQ(reading.place_of("train.steps"), "--set train.steps=5");
  EXPECT_EQ(reading.place_of("count"), "");
}

TEST(ConfigIo, DumpsEveryKeyInOrder) {
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

TEST(ConfigIo, LoadsWhatItDumpedAndDumpsTheSameBytesAgain) {
  for (const Everything& config : {Everything{}, unusual()}) {
    const std::string text = dump_config(config);
    const Everything again = load(text);
    EXPECT_EQ(again, config);
    EXPECT_EQ(dump_config(again), text);
  }
}

TEST(ConfigIo, LoadsEveryTextThatItDumped) {
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

TEST(ConfigIo, DumpsNumbersThatReadBackExactly) {
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

TEST(ConfigIo, DumpsMapsOnOneLine) {
  EXPECT_EQ(dump_inline(to_config_value(Layer{.width = 2, .name = "a, b"})),
            "{width: 2, name: \"a, b\"}");
  EXPECT_EQ(dump_inline({}), "null");
}

TEST(ConfigIo, ListsChangedKeysWithBothValues) {
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

TEST(ConfigIo, LeavesIgnoredKeysAndThoseBelowThemOutOfADifference) {
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

TEST(ConfigIo, DescribesEveryKey) {
  const std::string text = describe_config<Everything>();
  for_each_key(config_schema<Everything>(), [&](const std::string& path, const ConfigKey& key) {
    EXPECT_THAT(text, HasSubstr(path + " "));
    EXPECT_THAT(text, HasSubstr("    " + key.help + "\n"));
  });
  EXPECT_THAT(text, HasSubstr("train.steps    whole number 1 to 1000000  default 100\n"
                              "    number of steps\n"
                              "    paper: 430000 (B.2)\n"
                              "train.rate     number 0 to 1              default 1.0e-8\n"));
  EXPECT_THAT(text, HasSubstr("floor          number >= -1, or null      default null\n"));
  EXPECT_THAT(text, HasSubstr("ratio          number <= 2.5              default 0.1\n"));
  EXPECT_THAT(text, HasSubstr("dessert        name, or null              default null\n"
                              "    a dessert\n"
                              "    one of: apple, sour_cherry\n"));
  EXPECT_THAT(text, HasSubstr("basket         list: name                 default []\n"
                              "    fruits\n"
                              "    one of: apple, sour_cherry\n"));
  EXPECT_THAT(text, HasSubstr("train.is_long  true or false              default true\n"));
  EXPECT_THAT(text, HasSubstr("layer.name     text                       default plain\n"));
}

struct WithSection {
  std::optional<Layer> extra;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("extra", self.extra, {.help = "one more layer; null: none"});
  }
};

TEST(ConfigIo, DescribesASectionThatMayBeLeftOut) {
  EXPECT_THAT(describe_config<WithSection>(),
              testing::StartsWith("extra        keys, or null      default null\n"
                                  "    one more layer; null: none\n"
                                  "extra.width  whole number >= 1  default 8\n"));
  const auto schema = nlohmann::json::parse(config_json_schema<WithSection>("a test"));
  const auto& extra = schema["properties"]["extra"];
  EXPECT_EQ(extra["type"], nlohmann::json({"object", "null"}));
  ASSERT_TRUE(extra.contains("default"));
  EXPECT_EQ(extra["default"], nullptr);
  EXPECT_EQ(
      read_config_text(config_schema<WithSection>(), "extra: 3", "x.yaml").problems.at(0).text(),
      "x.yaml:1:8: extra: found 3, expected keys with values or null");
}

/// A struct with a key that was renamed and that a resumed run may change.
struct Renamed {
  int64_t steps = 1;
  Layer layer;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("steps", self.steps,
          {.help = "number of steps", .formerly = "updates", .may_change = true});
    visit("layer", self.layer, {.help = "a layer", .formerly = "block"});
  }
};

TEST(ConfigIo, ReadsKeysUnderTheirFormerNames) {
  const std::vector<std::string> overrides = {"block.name=last"};
  const auto config =
      load_config_text<Renamed>("updates: 3\nblock: {width: 5}\n", "x.yaml", overrides);
  EXPECT_EQ(config.steps, 3);
  EXPECT_EQ(config.layer, (Layer{.width = 5, .name = "last"}));
  EXPECT_EQ(dump_config(config), "steps: 3\nlayer:\n  width: 5\n  name: last\n");
  const auto problem_of = [](const char* yaml) {
    return read_config_text(config_schema<Renamed>(), yaml, "x.yaml").problems.at(0).text();
  };
  EXPECT_EQ(problem_of("steps: 3\nupdates: 3\n"),
            "x.yaml:2:1: updates: duplicate key; first defined on line 1 as steps");
  EXPECT_EQ(problem_of("updates: 3\nsteps: 3\n"),
            "x.yaml:2:1: steps: duplicate key; first defined on line 1 as updates");
  EXPECT_THAT(describe_config<Renamed>(), HasSubstr("    formerly: updates\n"));
  EXPECT_THAT(keys_that_may_change(config_schema<Renamed>()), ElementsAre("steps"));
}

TEST(ConfigIo, HasAJsonSchemaOfEveryKey) {
  const auto schema = nlohmann::json::parse(config_json_schema<Everything>("a test"));
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["title"], "a test");
  EXPECT_EQ(schema["type"], "object");
  EXPECT_EQ(schema["additionalProperties"], false);
  const auto& keys = schema["properties"];
  EXPECT_EQ(keys.size(), 14u);
  EXPECT_EQ(keys["train"]["additionalProperties"], false);
  const auto& steps = keys["train"]["properties"]["steps"];
  EXPECT_EQ(steps, nlohmann::json({{"type", "integer"},
                                   {"minimum", 1},
                                   {"maximum", 1000000},
                                   {"default", 100},
                                   {"description", "number of steps. Paper: 430000 (B.2)"}}));
  EXPECT_EQ(keys["ratio"]["maximum"], 2.5);
  EXPECT_EQ(keys["floor"]["type"], nlohmann::json({"number", "null"}));
  EXPECT_EQ(keys["floor"]["default"], nullptr);
  EXPECT_EQ(keys["fruit"]["enum"], nlohmann::json({"apple", "sour_cherry"}));
  EXPECT_EQ(keys["dessert"]["enum"], nlohmann::json({"apple", "sour_cherry", nullptr}));
  EXPECT_EQ(keys["sizes"]["items"], nlohmann::json({{"type", "integer"}, {"minimum", 0}}));
  EXPECT_EQ(keys["sizes"]["default"], nlohmann::json({1, 2}));
  EXPECT_EQ(keys["layers"]["items"]["properties"]["width"]["default"], 8);
  EXPECT_EQ(keys["flag"]["type"], "boolean");
  EXPECT_EQ(keys["text"]["type"], "string");
}

TEST(ConfigIo, AllowsFormerKeysInTheJsonSchema) {
  const auto schema = nlohmann::json::parse(config_json_schema<Renamed>("a test"));
  const auto& keys = schema["properties"];
  EXPECT_EQ(keys.size(), 4u);
  for (const auto& [present, former] : {std::pair{"steps", "updates"}, {"layer", "block"}}) {
    auto expected = keys[present];
    EXPECT_FALSE(expected.contains("deprecated"));
    expected["deprecated"] = true;
    EXPECT_EQ(keys[former], expected);
  }
}

}  // namespace
}  // namespace dalle
