#include "data/split_dataset.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

using testing::ElementsAre;

/// Samples that only have keys.
class KeyDataset final : public Dataset {
 public:
  explicit KeyDataset(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  int64_t size() const override { return std::ssize(keys_); }
  RawSample get(int64_t index) const override {
    return {.key = keys_[index], .image = "bytes of " + keys_[index], .captions = {keys_[index]}};
  }
  std::string key(int64_t index) const override { return keys_[index]; }

 private:
  std::vector<std::string> keys_;
};

std::vector<std::string> numbered_keys(int count) {
  std::vector<std::string> keys;
  for (int i = 0; i < count; ++i) keys.push_back("00000.tar/" + std::to_string(i));
  return keys;
}

std::set<std::string> validation_keys(const std::vector<std::string>& keys, double fraction) {
  const KeyDataset dataset(keys);
  std::set<std::string> chosen;
  for (const int64_t index : split_by_key(dataset, fraction).validation)
    chosen.insert(dataset.key(index));
  return chosen;
}

TEST(SplitByKey, SplitsSamplesByTheFraction) {
  constexpr int kCount = 20'000;
  const KeyDataset dataset(numbered_keys(kCount));
  for (const double fraction : {0.01, 0.1, 0.5}) {
    const SplitIndices sides = split_by_key(dataset, fraction);
    EXPECT_TRUE(std::ranges::is_sorted(sides.train));
    EXPECT_TRUE(std::ranges::is_sorted(sides.validation));
    std::set<int64_t> all(sides.train.begin(), sides.train.end());
    all.insert(sides.validation.begin(), sides.validation.end());
    EXPECT_EQ(sides.train.size() + sides.validation.size(), size_t{kCount});
    EXPECT_EQ(all.size(), size_t{kCount});  // so no sample is on both sides
    const double stddev = std::sqrt(kCount * fraction * (1 - fraction));
    EXPECT_NEAR(static_cast<double>(sides.validation.size()), kCount * fraction, 4 * stddev);
  }
}

TEST(SplitByKey, DependsOnTheKeyAlone) {
  std::vector<std::string> keys = numbered_keys(1000);
  const std::set<std::string> chosen = validation_keys(keys, 0.1);
  std::ranges::reverse(keys);
  EXPECT_EQ(validation_keys(keys, 0.1), chosen);
  keys.resize(500);
  for (const std::string& key : validation_keys(keys, 0.1)) EXPECT_TRUE(chosen.contains(key));
  const std::set<std::string> more = validation_keys(numbered_keys(1000), 0.2);
  EXPECT_TRUE(std::ranges::includes(more, chosen));
}

TEST(SplitByKey, NeverChanges) {
  // A run resumed by a later version must not train on its validation samples. Computed separately:
  // a 0.282, b 0.884, c 0.0527, d 0.153, e 0.0517, f 0.571.
  EXPECT_THAT(validation_keys({"a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"}, 0.4),
              ElementsAre("a.jpg", "c.jpg", "d.jpg", "e.jpg"));
  EXPECT_THAT(validation_keys({"a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"}, 0.052),
              ElementsAre("e.jpg"));
}

TEST(SplitByKey, PutsASampleOnEachSide) {
  for (int count = 2; count < 40; ++count)
    for (const double fraction : {0.0, 0.01, 0.5}) {
      const SplitIndices sides = split_by_key(KeyDataset(numbered_keys(count)), fraction);
      EXPECT_FALSE(sides.train.empty());
      EXPECT_FALSE(sides.validation.empty());
      EXPECT_EQ(std::ssize(sides.train) + std::ssize(sides.validation), count);
    }
}

TEST(SplitByKey, UsesASingleSampleForBoth) {
  const SplitIndices sides = split_by_key(KeyDataset({"only"}), 0.01);
  EXPECT_THAT(sides.train, ElementsAre(0));
  EXPECT_THAT(sides.validation, ElementsAre(0));
}

TEST(SplitDataset, ViewsTheSelectedSamples) {
  const auto dataset = std::make_shared<const KeyDataset>(numbered_keys(5));
  const SplitDataset part(dataset, {3, 1});
  ASSERT_EQ(part.size(), 2);
  EXPECT_EQ(part.key(0), "00000.tar/3");
  EXPECT_EQ(part.get(1).key, "00000.tar/1");
  EXPECT_EQ(std::get<std::string>(part.get(1).image), "bytes of 00000.tar/1");
  EXPECT_THAT(part.captions(0), ElementsAre("00000.tar/3"));
}

}  // namespace
}  // namespace dalle
