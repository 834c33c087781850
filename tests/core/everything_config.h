#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config/config_io.h"

namespace dalle {

enum class Fruit { kApple, kSourCherry };
constexpr auto enum_names(Fruit) {
  return names_in_order<Fruit>("apple", "sour_cherry");
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

inline Everything load(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return load_config_text<Everything>(text, "x.yaml", overrides);
}

}  // namespace dalle
