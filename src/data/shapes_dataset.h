#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/shapes/shapes_scene.h"

namespace dalle {

/// The procedural data set. Sample i is a pure function of (config, seed, split, i) and is
/// generated on demand.
class ShapesDataset : public Dataset {
 public:
  ShapesDataset(const ShapesConfig& config, int64_t image_size, uint64_t seed, ShapesSplit split);

  int64_t size() const override;
  RawSample get(int64_t index) const override;
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
