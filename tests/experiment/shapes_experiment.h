#pragma once

#include "experiment/config/experiment_config.h"

namespace dalle {

/// A few scenes of one object at 32 pixels and a transformer of width 16; tests choose the sizes of
/// the dVAE and the depth.
inline ExperimentConfig shapes_experiment() {
  ExperimentConfig config;
  config.data.kind = DatasetKind::kShapes;
  config.data.image_size = 32;
  config.data.shapes.samples = 20;
  config.data.shapes.validation_samples = 10;
  config.data.shapes.max_objects = 1;
  config.data.shapes.hold_out = false;
  config.dalle.model.heads = 2;
  config.dalle.model.width = 16;
  config.dalle.model.text_length = 16;
  config.dalle.model.conv_kernel = 3;
  config.dalle.model.init = TransformerInit::kNormal002;  // the paper's head of zeros sees no codes
  return config;
}

}  // namespace dalle
