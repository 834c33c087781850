#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "dalle/core/fields.h"
#include "dalle/data/shapes_config.h"

namespace dalle {

enum class DatasetKind { kShapes, kFolder, kShards };

constexpr auto enum_names(DatasetKind) {
  return std::array{std::pair{DatasetKind::kShapes, std::string_view("shapes")},
                    std::pair{DatasetKind::kFolder, std::string_view("folder")},
                    std::pair{DatasetKind::kShards, std::string_view("shards")}};
}

/// Where pictures and captions come from and how they are read.
struct DataConfig {
  DatasetKind kind = DatasetKind::kFolder;
  std::string path = "";
  std::string validation_path = "";
  double validation_fraction = 0.01;
  int64_t image_size = 256;
  int64_t background = 255;
  double max_bad_fraction = 0.05;
  int64_t workers = 2;
  int64_t prefetch = 4;
  std::string index_cache = "";
  ShapesConfig shapes;

  bool operator==(const DataConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("kind", self.kind,
          {.help = "shapes (built in), folder (pictures with .txt captions) or shards (WebDataset "
                   "tar files)"});
    visit("path", self.path,
          {.help = "the folder, a shard, a folder of shards, or a pattern such as "
                   "data/{00000..00012}.tar"});
    visit("validation_path", self.validation_path,
          {.help = "data held out for validation; empty: a fraction of `path`"});
    visit(
        "validation_fraction", self.validation_fraction,
        {.help =
             "share of the samples held out, by hash of their keys, when validation_path is empty",
         .min = 0,
         .max = 0.5});
    visit("image_size", self.image_size,
          {.help = "side of the square training pictures in pixels",
           .min = 32,
           .max = 512,
           .paper = "256 (section 2.1)"});
    visit("background", self.background,
          {.help = "grey level under transparent pictures; 255 is white", .min = 0, .max = 255});
    visit("max_bad_fraction", self.max_bad_fraction,
          {.help = "share of unusable samples at which training ends with an error",
           .min = 0,
           .max = 1});
    visit("workers", self.workers,
          {.help = "threads that read and crop pictures", .min = 1, .max = 256});
    visit("prefetch", self.prefetch, {.help = "batches made ahead", .min = 1, .max = 1024});
    visit(
        "index_cache", self.index_cache,
        {.help = "folder for the shards' indices when theirs is read-only; empty: ~/.cache/dalle"});
    visit("shapes", self.shapes, {.help = "the procedural data set"});
  }
};

}  // namespace dalle
