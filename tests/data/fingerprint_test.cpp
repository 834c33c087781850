#include "dalle/data/fingerprint.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "dalle/core/error.h"

namespace dalle {
namespace {

class NamedPictures : public Dataset {
 public:
  explicit NamedPictures(std::vector<std::string> keys) : keys_(std::move(keys)) {}

  int64_t size() const override { return static_cast<int64_t>(keys_.size()); }
  std::string key(int64_t index) const override { return keys_[static_cast<size_t>(index)]; }
  Example get(int64_t) const override {
    ADD_FAILURE() << "read a picture";
    return {};
  }

 private:
  std::vector<std::string> keys_;
};

TEST(FingerprintTest, TellsDataSetsApartByTheirNamesAndOrder) {
  const std::vector<std::vector<std::string>> lists = {
      {}, {"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"a", "b", "c"}, {"ab"}};
  std::set<std::string> seen;
  for (const auto& list : lists) {
    EXPECT_TRUE(seen.insert(fingerprint(NamedPictures(list))).second);
    EXPECT_EQ(fingerprint(NamedPictures(list)), fingerprint(NamedPictures(list)));
  }
}

TEST(FingerprintTest, SeesEachNameOfManyMegabytes) {
  std::vector<std::string> keys;
  for (int i = 0; i < 5'000; ++i) keys.push_back(std::string(1'000, 'x') + std::to_string(i));
  const std::string whole = fingerprint(NamedPictures(keys));
  EXPECT_TRUE(whole.starts_with("5000 pictures, names ")) << whole;
  for (const size_t changed : {size_t{0}, size_t{1'048}, size_t{2'500}, size_t{4'999}}) {
    std::vector<std::string> other = keys;
    other[changed].back() = 'y';
    EXPECT_NE(fingerprint(NamedPictures(other)), whole) << changed;
  }
}

class CaptionedBytes : public Dataset {
 public:
  std::vector<std::string> images;
  std::string caption = "a caption";

  int64_t size() const override { return static_cast<int64_t>(images.size()); }
  std::string key(int64_t index) const override { return std::to_string(index); }
  Example get(int64_t index) const override {
    const std::string& image = images[static_cast<size_t>(index)];
    if (image.empty()) throw Error("unreadable");
    return {.key = key(index), .image = image, .captions = {caption}};
  }
};

TEST(ContentFingerprintTest, TellsDataSetsOfTheSameNamesApart) {
  CaptionedBytes dataset;
  dataset.images = {"one", "two", ""};
  const std::string before = content_fingerprint(dataset);
  EXPECT_EQ(content_fingerprint(dataset), before);
  dataset.caption = "another";
  EXPECT_NE(content_fingerprint(dataset), before);
  dataset.caption = "a caption";
  dataset.images[1] = "2";
  EXPECT_NE(content_fingerprint(dataset), before);
  dataset.images[1] = "";
  EXPECT_NE(content_fingerprint(dataset), before);
}

}  // namespace
}  // namespace dalle
