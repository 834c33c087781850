#include "data/shapes_dataset.h"

#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "data/shapes/shapes_caption.h"

namespace dalle {
namespace {

ShapesConfig config_of(int64_t objects) {
  ShapesConfig config;
  config.samples = 500;
  config.validation_samples = 50;
  config.min_objects = config.max_objects = objects;
  return config;
}

std::vector<std::string> words_of(const std::string& caption) {
  std::istringstream text(caption);
  std::vector<std::string> words;
  for (std::string word; text >> word;) {
    if (word.back() == ',') word.pop_back();
    words.push_back(word);
  }
  return words;
}

/// The distinct shapes that a caption names, in order, found without using the grammar.
template <NamedEnum E>
std::vector<std::string> values_named(const std::string& caption) {
  std::vector<std::string> found;
  for (const std::string& word : words_of(caption))
    for (const auto& [value, name] : enum_names(E{}))
      if (word == name) found.emplace_back(name);
  return found;
}

TEST(ShapesDataset, IsAFunctionOfItsArguments) {
  const ShapesDataset a(config_of(2), 64, 1, ShapesSplit::kTrain),
      b(config_of(2), 64, 1, ShapesSplit::kTrain);
  EXPECT_EQ(std::get<RgbImage>(a.get(7).image), std::get<RgbImage>(b.get(7).image));
  EXPECT_EQ(a.get(7).captions, b.captions(7));
  EXPECT_EQ(a.get(7).key, "shapes/train/7");
  EXPECT_EQ(a.key(7), "shapes/train/7");
}

TEST(ShapesDataset, HasTheSizesOfItsConfig) {
  EXPECT_EQ(ShapesDataset(config_of(1), 64, 1, ShapesSplit::kTrain).size(), 500);
  EXPECT_EQ(ShapesDataset(config_of(1), 64, 1, ShapesSplit::kL1).size(), 50);
  EXPECT_EQ(
      std::get<RgbImage>(ShapesDataset(config_of(1), 48, 1, ShapesSplit::kL1).get(0).image).width,
      48);
}

TEST(ShapesDataset, CaptionsNameTheShapesAndColorsOfTheScene) {
  for (const int64_t objects : {1, 2}) {
    const ShapesDataset data(config_of(objects), 32, 1, ShapesSplit::kTrain);
    for (int64_t i = 0; i < data.size(); ++i) {
      const ShapesScene scene = data.scene(i);
      const std::string caption = data.captions(i).front();
      std::vector<std::string> shapes, colors;
      for (const auto& object : scene.objects) {
        shapes.emplace_back(to_string(object.shape));
        colors.emplace_back(to_string(object.color));
      }
      EXPECT_EQ(values_named<ShapeKind>(caption), shapes) << caption;
      EXPECT_EQ(values_named<ShapeColor>(caption), colors) << caption;
      for (const auto& size : values_named<ShapeSize>(caption)) {
        bool known = false;
        for (const auto& object : scene.objects) known |= size == to_string(object.size);
        EXPECT_TRUE(known) << caption;
      }
      for (const auto& background : values_named<ShapeBackground>(caption))
        EXPECT_EQ(background, to_string(scene.background));
    }
  }
}

TEST(ShapesDataset, IncludesThePlainCaption) {
  ShapesConfig config = config_of(1);
  config.textures = {ShapeTexture::kSolid};
  config.unstated_attributes = 0.5;
  const ShapesDataset data(config, 32, 1, ShapesSplit::kTrain);
  int plain = 0, with_size = 0, with_background = 0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto words = words_of(data.captions(i).front());
    EXPECT_EQ(values_named<ShapeTexture>(data.captions(i).front()).size(),
              0u);  // a single texture is not mentioned
    plain += words.size() == 3;
    with_size += words.size() == 4;
    with_background += words.size() == 7;
  }
  for (const int count : {plain, with_size, with_background}) EXPECT_NEAR(count, 125, 45);
}

TEST(ShapesDataset, UsesTheCorrectArticle) {
  const ShapesDataset data(config_of(1), 32, 1, ShapesSplit::kTrain);
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto words = words_of(data.captions(i).front());
    const bool vowel = std::string("aeiou").find(words[1].front()) != std::string::npos;
    EXPECT_EQ(words[0], vowel ? "an" : "a") << data.captions(i).front();
  }
}

TEST(ShapesDataset, HeldOutPhrasesDoNotOccurInTraining) {
  const ShapesDataset train(config_of(2), 32, 1, ShapesSplit::kTrain),
      held_out(config_of(2), 32, 1, ShapesSplit::kL7);
  const auto is_held_out = [](const std::string& caption) {
    return caption.starts_with("there is") || caption.starts_with("on a") ||
           caption.find(" side of ") != std::string::npos ||
           caption.find("on top of") != std::string::npos ||
           caption.find("beneath") != std::string::npos;
  };
  for (int64_t i = 0; i < train.size(); ++i) EXPECT_FALSE(is_held_out(train.captions(i).front()));
  for (int64_t i = 0; i < held_out.size(); ++i)
    EXPECT_TRUE(is_held_out(held_out.captions(i).front()));
}

TEST(ShapesDataset, SplitsShareNoScene) {
  const ShapesDataset train(config_of(2), 32, 1, ShapesSplit::kTrain),
      validation(config_of(2), 32, 1, ShapesSplit::kL1);
  std::set<std::vector<uint8_t>> images;
  for (int64_t i = 0; i < train.size(); ++i)
    images.insert(std::get<RgbImage>(train.get(i).image).pixels);
  for (int64_t i = 0; i < validation.size(); ++i)
    EXPECT_FALSE(images.contains(std::get<RgbImage>(validation.get(i).image).pixels));
}

}  // namespace
}  // namespace dalle
