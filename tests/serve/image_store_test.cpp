#include "serve/http/image_store.h"

#include <chrono>
#include <memory>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace dalle {
namespace {

using namespace std::chrono_literals;

TEST(ImageStoreTest, ReturnsWhatWasStored) {
  ImageStore store({});
  const std::string id = store.add("bytes", "image/png");
  const std::shared_ptr<const StoredImage> image = store.find(id);
  ASSERT_NE(image, nullptr);
  EXPECT_EQ(image->bytes, "bytes");
  EXPECT_EQ(image->content_type, "image/png");
  EXPECT_EQ(store.find(""), nullptr);
  EXPECT_EQ(store.find(id.substr(1)), nullptr);
}

TEST(ImageStoreTest, GivesEachImageAnIdThatCannotBeGuessed) {
  ImageStore store({});
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(store.add("same", "image/png"));
  EXPECT_EQ(ids.size(), 1000U);
  for (const std::string& id : ids) {
    EXPECT_EQ(id.size(), 32U);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
}

TEST(ImageStoreTest, DropsImagesAfterTheirTime) {
  ImageStore::Clock::time_point now;
  ImageStore store({.age = 10s}, [&] { return now; });
  const std::string first = store.add("1", "image/png");
  now += 5s;
  const std::string second = store.add("2", "image/png");
  now += 4s;
  EXPECT_NE(store.find(first), nullptr);
  now += 1s;
  EXPECT_EQ(store.find(first), nullptr);
  EXPECT_NE(store.find(second), nullptr);
  now += 5s;
  EXPECT_EQ(store.find(second), nullptr);
}

TEST(ImageStoreTest, DropsTheOldestImagesWhenItIsFull) {
  ImageStore store({.bytes = 10});
  const std::string first = store.add("1234", "image/png");
  const std::string second = store.add("5678", "image/png");
  const std::shared_ptr<const StoredImage> held = store.find(first);
  const std::string third = store.add("abcd", "image/png");
  EXPECT_EQ(store.find(first), nullptr);
  EXPECT_EQ(held->bytes, "1234");  // for a reply that is being sent
  EXPECT_NE(store.find(second), nullptr);
  EXPECT_NE(store.find(third), nullptr);
  EXPECT_EQ(store.find(store.add(std::string(11, 'x'), "image/png")), nullptr);
  EXPECT_EQ(store.find(third), nullptr);
  EXPECT_NE(store.find(store.add("again", "image/png")), nullptr);
}

}  // namespace
}  // namespace dalle
