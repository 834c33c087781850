#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/run_folder.h"

namespace dalle {

/// A file of sample images that training wrote.
struct SampleFile {
  std::string kind;  ///< "reconstructions"
  int64_t step = 0;
  std::string file;  ///< "reconstructions-00001000.png"
};

/// The sample images of a stage, by kind and step; none if there is no folder of them. Files with
/// names that training does not give to them, such as partial files, are left out.
std::vector<SampleFile> samples_of(const RunPaths& run, std::string_view stage);

}  // namespace dalle
