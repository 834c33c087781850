#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dalle/data/dataset.h"
#include "dalle/data/shapes_scene.h"

namespace dalle {

/// The procedural data set: sample i is a pure function of (config, seed, split, i), so nothing is
/// stored.
class ShapesDataset : public Dataset {
 public:
  ShapesDataset(const ShapesConfig& config, int64_t image_size, uint64_t seed, ShapesSplit split);

  int64_t size() const override;
  Example get(int64_t index) const override;
  std::string key(int64_t index) const override;
  std::vector<std::string> captions(int64_t index) const override;

  ShapesScene scene(int64_t index) const;

 private:
  ShapesConfig config_;
  int64_t image_size_;
  uint64_t seed_;
  ShapesSplit split_;
};

}  // namespace dalle
