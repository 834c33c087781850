#include "data/datasets.h"

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "data/test_tars.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::set<std::string> key_set_of(const Dataset& dataset) {
  std::set<std::string> keys;
  for (int64_t i = 0; i < dataset.size(); ++i) keys.insert(dataset.key(i));
  return keys;
}

class DatasetsTest : public testing::Test {
 protected:
  void write_images(const std::string& folder, int count) const {
    make_directories(folder_ / folder);
    for (int i = 0; i < count; ++i)
      write_file_atomically(folder_ / (folder + "/" + std::to_string(i) + ".jpg"), "image");
  }

  DataConfig config(DatasetKind kind, const std::string& path,
                    const std::string& validation_path = "") const {
    DataConfig result;
    result.kind = kind;
    result.path = (folder_ / path).string();
    if (!validation_path.empty()) result.validation_path = (folder_ / validation_path).string();
    result.index_cache = (folder_ / "cache").string();
    result.validation_fraction = 0.2;
    return result;
  }

  TemporaryDirectory folder_;
};

TEST_F(DatasetsTest, SplitsAFolderIndependentlyOfTheSeed) {
  write_images("data", 100);
  const DatasetPair pair = open_datasets(config(DatasetKind::kFolder, "data"), 1);
  std::set<std::string> all = key_set_of(*pair.train);
  all.merge(key_set_of(*pair.validation));
  EXPECT_EQ(all.size(), 100U);
  EXPECT_EQ(pair.train->size() + pair.validation->size(), 100);
  EXPECT_GT(pair.validation->size(), 5);
  const DatasetPair again = open_datasets(config(DatasetKind::kFolder, "data"), 2);
  EXPECT_EQ(key_set_of(*again.validation), key_set_of(*pair.validation));
}

TEST_F(DatasetsTest, SplitsShards) {
  NamedContents members;
  for (int i = 0; i < 100; ++i) members.emplace_back(std::to_string(i) + ".jpg", "image");
  write_tar(folder_ / "0.tar", members);
  const DatasetPair pair = open_datasets(config(DatasetKind::kShards, "0.tar"), 1);
  EXPECT_EQ(pair.train->size() + pair.validation->size(), 100);
  EXPECT_GT(pair.validation->size(), 5);
  EXPECT_EQ(std::get<std::string>(pair.validation->get(0).image), "image");
}

TEST_F(DatasetsTest, UsesASingleSampleForBoth) {
  write_images("data", 1);
  const DatasetPair pair = open_datasets(config(DatasetKind::kFolder, "data"), 1);
  EXPECT_EQ(key_set_of(*pair.train), key_set_of(*pair.validation));
  EXPECT_EQ(pair.train->size(), 1);
}

TEST_F(DatasetsTest, UsesAllOfASeparateValidationPath) {
  write_images("train", 20);
  write_images("validation", 5);
  const DatasetPair pair = open_datasets(config(DatasetKind::kFolder, "train", "validation"), 1);
  EXPECT_EQ(pair.train->size(), 20);
  EXPECT_EQ(pair.validation->size(), 5);
}

TEST_F(DatasetsTest, RejectsPathsThatShareSamples) {
  write_images("data", 3);
  write_images("data/held_out", 3);
  write_images("database", 3);
  fs::create_directory_symlink("data", folder_ / "link");
  for (const auto& [path, validation] :
       {std::pair{"data", "data"}, std::pair{"data", "data/held_out"},
        std::pair{"data/held_out", "data"}, std::pair{"data", "link"}})
    EXPECT_THAT(error_of([given = config(DatasetKind::kFolder, path, validation)] {
                  open_datasets(given, 1);
                }),
                HasSubstr("expected folders that do not contain each other"))
        << path << " and " << validation;
  EXPECT_NO_THROW(open_datasets(config(DatasetKind::kFolder, "data", "database"), 1));
}

TEST_F(DatasetsTest, RejectsPatternsThatShareShards) {
  for (const char* name : {"0.tar", "1.tar", "2.tar"}) write_tar(folder_ / name, {{"a.jpg", "p"}});
  EXPECT_THAT(
      error_of([&] { open_datasets(config(DatasetKind::kShards, "{0..1}.tar", "1.tar"), 1); }),
      testing::AllOf(HasSubstr("data.validation_path: shard "),
                     HasSubstr("1.tar is also part of data.path ")));
  const DatasetPair pair = open_datasets(config(DatasetKind::kShards, "{0..1}.tar", "2.tar"), 1);
  EXPECT_EQ(pair.train->size(), 2);
  EXPECT_THAT(key_set_of(*pair.validation), ElementsAre("2.tar/a"));
}

TEST_F(DatasetsTest, NamesTheInvalidKeyOrPath) {
  DataConfig none;
  EXPECT_EQ(error_of([&] { open_datasets(none, 1); }),
            "data.path: empty, expected the path of the images (data.kind is folder)");
  EXPECT_THAT(error_of([&] { open_datasets(config(DatasetKind::kFolder, "none"), 1); }),
              HasSubstr("/none: no such folder"));
  write_images("empty", 0);
  EXPECT_THAT(error_of([&] { open_datasets(config(DatasetKind::kFolder, "empty"), 1); }),
              HasSubstr("/empty: no images in the folder"));
  EXPECT_THAT(error_of([&] { open_datasets(config(DatasetKind::kShards, "empty"), 1); }),
              HasSubstr("/empty: found no .tar files in the folder"));
}

TEST_F(DatasetsTest, NamesTheKindOfDataAtThePath) {
  write_images("images", 1);
  make_directories(folder_ / "shards");
  write_tar(folder_ / "shards/0.tar", {{"a.jpg", "p"}});
  for (const char* path : {"shards", "shards/0.tar", "shards/{0..1}.tar"})
    EXPECT_THAT(error_of([&] { open_datasets(config(DatasetKind::kFolder, path), 1); }),
                HasSubstr("for shards set data.kind=shards"))
        << path;
  EXPECT_THAT(error_of([&] { open_datasets(config(DatasetKind::kShards, "images"), 1); }),
              HasSubstr("to use its 1 images, set data.kind=folder"));
}

TEST_F(DatasetsTest, ExplainsThatPathsAreNotExpanded) {
  const auto message = [&](const std::string& path, DatasetKind kind) {
    DataConfig written;
    written.kind = kind;
    written.path = path;
    return error_of([&] { open_datasets(written, 1); });
  };
  EXPECT_THAT(message("~/no-such-images", DatasetKind::kFolder),
              HasSubstr("~/no-such-images: no such file or folder: ~ is not expanded"));
  EXPECT_THAT(message("$NOWHERE/images", DatasetKind::kFolder),
              HasSubstr("environment variables are not expanded"));
  EXPECT_THAT(message("/no-such/*.tar", DatasetKind::kShards),
              HasSubstr("wildcards are not supported; set the folder of the shards, or a range "
                        "such as data/{00000..00012}.tar"));
  EXPECT_THAT(message("https://example.com/images", DatasetKind::kFolder),
              HasSubstr("URLs are not supported"));
}

}  // namespace
}  // namespace dalle
