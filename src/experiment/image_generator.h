#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/stop_signal.h"
#include "experiment/model_evaluation.h"

namespace dalle {

/// Generates images with the sampling settings and the seed of a model's config, and keeps them in
/// memory: several suites are about the same images.
class ImageGenerator {
 public:
  /// @param model  with a transformer; must outlive the generator
  explicit ImageGenerator(const EvaluatedModel& model) : model_(model) {}

  /// An image for each caption. The second image of a caption that occurs twice is its image 1,
  /// because image 0 would be the same again.
  ///
  /// @param what  names the progress
  /// @return      each [3, S, S] uint8 on the CPU
  /// @throws whatever `check_stop` throws
  std::vector<at::Tensor> images(const std::vector<std::string>& captions, const std::string& what,
                                 const CheckStop& check_stop);

 private:
  const EvaluatedModel& model_;
  std::map<std::pair<std::string, int64_t>, at::Tensor> images_;  // by caption and its image
};

}  // namespace dalle
