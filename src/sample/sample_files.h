#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "data/image/image.h"
#include "data/image/rgb_image.h"
#include "sample/sampling_config.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// Everything that determines the images: equal requests give equal images.
struct ImageRequest {
  std::string caption;
  int64_t seed = 1;
  SamplingConfig sampling;
  std::string model;                         ///< hash of the checkpoint
  int64_t step = 0;                          ///< of the checkpoint
  nlohmann::ordered_json image_prompt = {};  ///< an object with what determines it; null: none

  /// Guidance that is off and an image prompt that is not given are omitted.
  nlohmann::ordered_json to_json() const;
};

/// How an image ranks among others of its request. Does not change the image.
struct ImageScore {
  double score = 0;       ///< higher is better
  std::string ranked_by;  ///< what computed the score

  struct Rank {
    int64_t place = 1;    ///< 1: the best
    int64_t best_of = 1;  ///< number of images that were ranked
  };
  std::optional<Rank> rank = {};  ///< of the images that a ranking keeps
};

/// The image files of a request in a folder, and the JSON file that describes them:
/// a-red-circle-seed1-000.png, -001.png, ... and a-red-circle-seed1.json.
///
/// An equal request uses the same names and overwrites its files with the same images. Settings
/// that differ from the defaults are in the name, as in `a-red-circle-seed1-temperature0.1`, and so
/// is a part of the hash of an image prompt. If the JSON file of a name describes a different
/// request, such as one to another model, the name ends in a part of the request's hash. So no
/// image overwrites one of another request.
class SampleFiles {
 public:
  /// @param defaults  the sampling settings in the model's config
  /// @throws dalle::Error if the JSON file exists but cannot be read
  SampleFiles(std::filesystem::path folder, const ImageRequest& request,
              const SamplingConfig& defaults, ImageFormat format);

  /// Writes an image. The text chunks of a PNG file contain the request, the score and the rank.
  /// @throws dalle::Error naming the file and the reason (disk full)
  void write(int64_t number, const RgbImage& image, const std::optional<ImageScore>& score = {});

  /// Writes the JSON file with the images so far and those that it described before. Writes no file
  /// if there are no images.
  /// @throws dalle::Error naming the file and the reason (disk full)
  void describe();

 private:
  std::filesystem::path json_file() const { return folder_ / (stem_ + ".json"); }

  std::filesystem::path folder_;
  nlohmann::ordered_json request_;
  ImageFormat format_;
  std::string stem_;
  std::map<std::string, nlohmann::ordered_json> entries_;  ///< by file name
  size_t described_ = 0;                                   ///< number of entries in the JSON file
};

}  // namespace dalle
