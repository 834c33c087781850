#pragma once

#include <cstdint>
#include <string>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "data/shapes/shapes_config.h"

namespace dalle {

enum class DatasetKind { kShapes, kFolder, kShards };

constexpr auto enum_names(DatasetKind) {
  return names_in_order<DatasetKind>("shapes", "folder", "shards");
}

/// The source of images and captions, and how they are read.
struct DataConfig {
  DatasetKind kind = DatasetKind::kFolder;
  std::string path = "";
  std::string validation_path = "";
  double validation_fraction = 0.01;
  int64_t image_size = 256;
  int64_t background = 255;
  double max_invalid_fraction = 0.05;
  int64_t workers = 2;
  int64_t prefetch = 4;
  std::string index_cache = "";
  ShapesConfig shapes;

  bool operator==(const DataConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    if (kind == DatasetKind::kShapes) return shapes.validate(checks.of("shapes"));
    checks.require(!validation_path.empty() || validation_fraction > 0, "validation_fraction",
                   {"validation_path"}, "found 0, expected more than 0, since {} is not set",
                   checks.path("validation_path"));
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("kind", self.kind,
          {.help = "shapes (built in), folder (images with .txt captions) or shards (WebDataset "
                   "tar files)"});
    visit("path", self.path,
          {.help = "the folder, a shard, a folder of shards, or a pattern such as "
                   "data/{00000..00012}.tar",
           .may_change = true,
           .may_differ_between_ranks = true});
    visit("validation_path", self.validation_path,
          {.help = "data held out for validation; empty: a fraction of `path`",
           .may_change = true,
           .may_differ_between_ranks = true});
    visit("validation_fraction", self.validation_fraction,
          {.help =
               "share of the samples held out, by hash of their keys, if validation_path is empty",
           .min = 0,
           .max = 0.5});
    visit("image_size", self.image_size,
          {.help = "side of the square training images in pixels",
           .min = 32,
           .max = 512,
           .paper = "256 (section 2.1)"});
    visit("background", self.background,
          {.help = "gray level under transparent images; 255 is white", .min = 0, .max = 255});
    visit("max_invalid_fraction", self.max_invalid_fraction,
          {.help = "share of invalid samples above which training ends with an error",
           .min = 0,
           .max = 1,
           .formerly = "max_bad_fraction",
           .may_change = true});
    visit("workers", self.workers,
          {.help = "threads that read and crop images", .min = 1, .max = 256, .may_change = true});
    visit("prefetch", self.prefetch,
          {.help = "batches prepared in advance", .min = 1, .max = 1024, .may_change = true});
    visit("index_cache", self.index_cache,
          {.help = "folder for the shards' indices when theirs is read-only; empty: ~/.cache/dalle",
           .may_change = true,
           .may_differ_between_ranks = true});
    visit("shapes", self.shapes, {.help = "the procedural data set"});
  }
};

}  // namespace dalle
