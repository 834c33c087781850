#include "data/fingerprint.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace dalle {
namespace {

class NamedImages : public Dataset {
 public:
  explicit NamedImages(std::vector<std::string> keys) : keys_(std::move(keys)) {}

  int64_t size() const override { return static_cast<int64_t>(keys_.size()); }
  std::string key(int64_t index) const override { return keys_[static_cast<size_t>(index)]; }
  RawSample get(int64_t) const override {
    ADD_FAILURE() << "read an image";
    return {};
  }

 private:
  std::vector<std::string> keys_;
};

TEST(FingerprintTest, DependsOnNamesAndTheirOrder) {
  const std::vector<std::vector<std::string>> lists = {
      {}, {"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"a", "b", "c"}, {"ab"}};
  std::set<std::string> seen;
  for (const auto& list : lists) {
    EXPECT_TRUE(seen.insert(fingerprint(NamedImages(list))).second);
    EXPECT_EQ(fingerprint(NamedImages(list)), fingerprint(NamedImages(list)));
  }
}

TEST(FingerprintTest, CoversManyMegabytesOfNames) {
  std::vector<std::string> keys;
  for (int i = 0; i < 5'000; ++i) keys.push_back(std::string(1'000, 'x') + std::to_string(i));
  const std::string original = fingerprint(NamedImages(keys));
  EXPECT_TRUE(original.starts_with("5000 images, names ")) << original;
  for (const size_t changed : {size_t{0}, size_t{1'048}, size_t{2'500}, size_t{4'999}}) {
    std::vector<std::string> other = keys;
    other[changed].back() = 'y';
    EXPECT_NE(fingerprint(NamedImages(other)), original) << changed;
  }
}

class CaptionedBytes : public Dataset {
 public:
  std::vector<std::string> images;
  std::string caption = "a caption";

  int64_t size() const override { return static_cast<int64_t>(images.size()); }
  std::string key(int64_t index) const override { return std::to_string(index); }
  RawSample get(int64_t index) const override {
    const std::string& image = images[static_cast<size_t>(index)];
    if (image.empty()) throw Error("unreadable");
    return {.key = key(index), .image = image, .captions = {caption}};
  }
};

TEST(ContentFingerprintTest, DistinguishesDataSetsWithTheSameNames) {
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
