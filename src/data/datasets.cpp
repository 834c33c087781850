#include "data/datasets.h"

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "data/folder_dataset.h"
#include "data/image/image_file.h"
#include "data/shapes_dataset.h"
#include "data/shard_dataset.h"
#include "data/split_dataset.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// A likely reason why `path` does not exist; empty if unknown.
std::string likely_reason(const std::string& path, DatasetKind kind) {
  if (path.find("://") != std::string::npos)
    return "URLs are not supported; download the data and set the local path";
  if (path.starts_with('~')) {
    const char* home = std::getenv("HOME");
    return fmt::format("~ is not expanded; write out the path{}",
                       path.starts_with("~/") && home != nullptr
                           ? fmt::format(", {}{}", home, path.substr(1))
                           : "");
  }
  if (path.find('$') != std::string::npos)
    return "environment variables are not expanded; write out the path";
  if (path.find_first_of("*?[") != std::string::npos)
    return kind == DatasetKind::kShards
               ? "wildcards are not supported; set the folder of the shards, or a range such as "
                 "data/{00000..00012}.tar"
               : "wildcards are not supported; set the folder of the images";
  if (kind == DatasetKind::kFolder && path.ends_with(".tar"))
    return "for shards set data.kind=shards";
  return "";
}

/// Throws if the path does not exist for a recognizable reason, or contains another kind of data.
/// All other errors are left to the data set that opens it.
void check_path(const std::string& path, DatasetKind kind) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    if (const std::string reason = likely_reason(path, kind); !reason.empty())
      throw Error("{}: no such file or folder: {}", path, reason);
  } else if (kind == DatasetKind::kFolder && path.ends_with(".tar")) {
    throw Error("{}: found a shard, expected a folder of images; for shards set data.kind=shards",
                path);
  }
}

std::unique_ptr<Dataset> open_files(const DataConfig& config, const std::string& path) {
  check_path(path, config.kind);
  if (config.kind == DatasetKind::kFolder) return std::make_unique<FolderDataset>(path);
  DALLE_CHECK(config.kind == DatasetKind::kShards);  // open_datasets() handles the rest
  return std::make_unique<ShardDataset>(path, config.index_cache);
}

bool is_within(const fs::path& inner, const fs::path& outer) {
  const fs::path relative = fs::canonical(inner).lexically_relative(fs::canonical(outer));
  return !relative.empty() && *relative.begin() != "..";
}

/// Both paths must exist. Folders are searched recursively, so nested ones would share images.
void require_distinct_folders(const DataConfig& config) {
  if (is_within(config.validation_path, config.path) ||
      is_within(config.path, config.validation_path))
    throw Error(
        "data.validation_path: {} and data.path {} share images, expected folders that "
        "do not contain each other",
        config.validation_path, config.path);
}

void require_distinct_shards(const DataConfig& config) {
  std::set<fs::path> training;
  for (const ShardFile& shard : list_shards(config.path))
    training.insert(fs::canonical(shard.path));
  for (const ShardFile& shard : list_shards(config.validation_path))
    if (training.contains(fs::canonical(shard.path)))
      throw Error("data.validation_path: shard {} is also part of data.path {}",
                  shard.path.string(), config.path);
}

/// Trains on all of `path` and validates on all of `validation_path`.
DatasetPair open_both_paths(const DataConfig& config) {
  DatasetPair pair{.train = open_files(config, config.path),
                   .validation = open_files(config, config.validation_path)};
  if (config.kind == DatasetKind::kShards)
    require_distinct_shards(config);
  else
    require_distinct_folders(config);
  return pair;
}

DatasetPair open_and_split(const DataConfig& config) {
  const std::shared_ptr<const Dataset> dataset = open_files(config, config.path);
  if (dataset->size() == 1)
    log_warning("{}: contains a single sample, which is used for training and validation",
                config.path);
  SplitIndices sides = split_by_key(*dataset, config.validation_fraction);
  return {.train = std::make_unique<SplitDataset>(dataset, std::move(sides.train)),
          .validation = std::make_unique<SplitDataset>(dataset, std::move(sides.validation))};
}

}  // namespace

DatasetPair open_datasets(const DataConfig& config, uint64_t seed) {
  if (config.kind == DatasetKind::kShapes) {
    const auto open = [&](ShapesSplit split) {
      return std::make_unique<ShapesDataset>(config.shapes, config.image_size, seed, split);
    };
    return {.train = open(ShapesSplit::kTrain), .validation = open(ShapesSplit::kL1)};
  }
  if (config.path.empty())
    throw Error("data.path: empty, expected the path of the images (data.kind is {})",
                to_string(config.kind));
  return config.validation_path.empty() ? open_and_split(config) : open_both_paths(config);
}

}  // namespace dalle
