#include "data/shapes_dataset.h"

#include "core/error.h"
#include "core/seeds.h"
#include "data/shapes/shapes_caption.h"
#include "data/shapes/shapes_renderer.h"

namespace dalle {

ShapesDataset::ShapesDataset(const ShapesConfig& config, int64_t image_size, uint64_t seed,
                             ShapesSplit split)
    : config_(config), image_size_(image_size), seed_(seed), split_(split) {}

int64_t ShapesDataset::size() const {
  return split_ == ShapesSplit::kTrain ? config_.samples : config_.validation_samples;
}

ShapesScene ShapesDataset::scene(int64_t index) const {
  DALLE_CHECK(index >= 0 && index < size());
  // L0 tests on the scenes of the training set.
  const ShapesSplit split = split_ == ShapesSplit::kL0 ? ShapesSplit::kTrain : split_;
  return sample_scene(config_, seed_, split, index);
}

std::vector<std::string> ShapesDataset::captions(int64_t index) const {
  constexpr uint64_t kCaptionStream = 1;  // distinct from the stream of the scene
  SeedStream random(derive_seed(seed_, SeedPurpose::kShapesScene, static_cast<uint64_t>(split_),
                                static_cast<uint64_t>(index), kCaptionStream));
  const auto phrasing =
      split_ == ShapesSplit::kL7 ? ShapesPhrasing::kHeldOut : ShapesPhrasing::kTraining;
  return {shapes_caption(scene(index), config_, phrasing, random)};
}

RawSample ShapesDataset::get(int64_t index) const {
  return {.key = key(index),
          .image = render_scene(scene(index), image_size_),
          .captions = captions(index)};
}

std::string ShapesDataset::key(int64_t index) const {
  return fmt::format("shapes/{}/{}", to_string(split_), index);
}

}  // namespace dalle
