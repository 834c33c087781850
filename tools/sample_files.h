#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "dalle/data/image.h"
#include "dalle/data/picture.h"
#include "dalle/sample/sampling_config.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// What images are generated from: equal requests have equal images.
struct ImageRequest {
  std::string caption;
  int64_t seed = 1;
  SamplingConfig sampling;
  std::string model;  ///< hash of the checkpoint
  int64_t step = 0;   ///< of the checkpoint

  nlohmann::ordered_json to_json() const;
};

/// The image files of a request in a folder, and the JSON file that describes them:
/// a-red-circle-seed1-000.png, -001.png, ... and a-red-circle-seed1.json.
///
/// The same request has the same names again, and overwrites its files with the same bytes. What
/// differs from the defaults is in the name, `a-red-circle-seed1-temperature0.1`; where the JSON
/// file of a name describes another request, such as that of another model, the name ends in a part
/// of the request's hash. So no image overwrites one of another request.
class SampleFiles {
 public:
  /// @param defaults  what the model's config says of sampling
  /// @throws dalle::Error if the JSON file is there and cannot be read
  SampleFiles(std::filesystem::path folder, const ImageRequest& request,
              const SamplingConfig& defaults, PictureFormat format);

  /// Writes an image. A PNG file says in text chunks what it was made from.
  /// @throws dalle::Error naming the file and the reason (disk full)
  void write(int64_t number, const Picture& image);

  /// Writes the JSON file, with the images so far and those that it described before; none if there
  /// are no images.
  /// @throws dalle::Error naming the file and the reason (disk full)
  void describe();

 private:
  std::filesystem::path json_file() const { return folder_ / (stem_ + ".json"); }

  std::filesystem::path folder_;
  nlohmann::ordered_json request_;
  PictureFormat format_;
  std::string stem_;
  std::map<std::string, nlohmann::ordered_json> entries_;  ///< by file name
  size_t described_ = 0;                                   ///< entries of the JSON file
};

}  // namespace dalle
