// What a config says about its keys: descriptions, former names and the JSON Schema.

#include "core/config/config_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/everything_config.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConfigSchema, DescribesEveryKey) {
  const std::string text = describe(config_schema<Everything>());
  for_each_key(config_schema<Everything>(), [&](const std::string& path, const ConfigKey& key) {
    EXPECT_THAT(text, HasSubstr(path + " "));
    EXPECT_THAT(text, HasSubstr("    " + key.help + "\n"));
  });
  EXPECT_THAT(text, HasSubstr("train.steps    integer from 1 to 1000000       default 100\n"
                              "    number of steps\n"
                              "    paper: 430000 (B.2)\n"
                              "train.rate     number from 0 to 1              default 1.0e-8\n"));
  EXPECT_THAT(text, HasSubstr("floor          number of at least -1, or null  default null\n"));
  EXPECT_THAT(text, HasSubstr("ratio          number of at most 2.5           default 0.1\n"));
  EXPECT_THAT(text, HasSubstr("dessert        name, or null                   default null\n"
                              "    a dessert\n"
                              "    one of: apple, sour_cherry\n"));
  EXPECT_THAT(text, HasSubstr("basket         list: name                      default []\n"
                              "    fruits\n"
                              "    one of: apple, sour_cherry\n"));
  EXPECT_THAT(text, HasSubstr("train.is_long  true or false                   default true\n"));
  EXPECT_THAT(text, HasSubstr("layer.name     text                            default plain\n"));
}

struct WithSection {
  std::optional<Layer> extra;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("extra", self.extra, {.help = "one more layer; null: none"});
  }
};

TEST(ConfigSchema, DescribesASectionThatMayBeLeftOut) {
  EXPECT_THAT(describe(config_schema<WithSection>()),
              testing::StartsWith("extra        keys, or null          default null\n"
                                  "    one more layer; null: none\n"
                                  "extra.width  integer of at least 1  default 8\n"));
  const auto schema = nlohmann::json::parse(json_schema(config_schema<WithSection>(), "a test"));
  const auto& extra = schema["properties"]["extra"];
  EXPECT_EQ(extra["type"], nlohmann::json({"object", "null"}));
  ASSERT_TRUE(extra.contains("default"));
  EXPECT_EQ(extra["default"], nullptr);
  EXPECT_EQ(
      read_config_text(config_schema<WithSection>(), "extra: 3", "x.yaml").problems.at(0).text(),
      "x.yaml:1:8: extra: found 3, expected a mapping or null");
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

TEST(ConfigSchema, ReadsKeysUnderTheirFormerNames) {
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
  EXPECT_THAT(describe(config_schema<Renamed>()), HasSubstr("    formerly: updates\n"));
  EXPECT_THAT(keys_that_may_change(config_schema<Renamed>()), ElementsAre("steps"));
}

TEST(ConfigSchema, HasAJsonSchemaOfEveryKey) {
  const auto schema = nlohmann::json::parse(json_schema(config_schema<Everything>(), "a test"));
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

TEST(ConfigSchema, AllowsFormerKeysInTheJsonSchema) {
  const auto schema = nlohmann::json::parse(json_schema(config_schema<Renamed>(), "a test"));
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
