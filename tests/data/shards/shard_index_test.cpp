#include "data/shards/shard_index.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/test_tars.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TarListing listing_of(const std::vector<std::string>& names) {
  TarListing listing;
  for (const std::string& name : names)
    listing.members.push_back({.name = name, .offset = listing.members.size() * 1024, .size = 7});
  return listing;
}

/// Formats samples as "key: extension extension".
std::vector<std::string> described(const ShardIndex& index) {
  std::vector<std::string> texts;
  for (const ShardSample& sample : index.samples) {
    std::string text = sample.key + ":";
    for (const ShardMember& member : sample.members) text += " " + member.extension;
    texts.push_back(text);
  }
  return texts;
}

TEST(ShardIndex, GroupsMembersByWebdatasetsRules) {
  const ShardIndex index = index_of(listing_of(
      {"000.jpg", "000.txt", "000.json", "d.x/001.seg.PNG", "d.x/001.JPG", "./002.cls", "__meta__",
       "d/__index.json__", "no_extension", ".hidden", "dot.", "d/._003.jpg"}));
  EXPECT_THAT(described(index),
              ElementsAre("000: jpg txt json", "d.x/001: seg.png jpg", "002: cls"));
  EXPECT_EQ(index.samples[1].members[1].bytes, (ByteRange{.offset = 4 * 1024, .size = 7}));
}

TEST(ShardIndex, JoinsMembersThatAreNotAdjacent) {
  const ShardIndex index = index_of(listing_of({"a.jpg", "b.jpg", "c.jpg", "a.txt", "c.txt"}));
  EXPECT_THAT(described(index), ElementsAre("a: jpg txt", "b: jpg", "c: jpg txt"));
  EXPECT_EQ(index.samples[2].defect, "");
}

TEST(ShardIndex, KeepsTheFirstOfDuplicateSamplesAndMarksTheOthers) {
  for (const bool adjacent : {true, false}) {
    std::vector<std::string> names = {"a.jpg", "a.txt", "a.jpg", "a.txt", "a.JPG", "b.jpg"};
    if (!adjacent) names = {"a.jpg", "a.txt", "b.jpg", "a.jpg", "a.txt", "a.JPG"};
    const ShardIndex index = index_of(listing_of(names));
    std::vector<std::string> samples = described(index);
    EXPECT_EQ(samples[0], "a: jpg txt");
    EXPECT_EQ(index.samples[0].members[0].bytes.offset, 0U);
    std::erase(samples, "b: jpg");
    EXPECT_THAT(samples,
                ElementsAre("a: jpg txt", "a (occurrence 2): jpg txt", "a (occurrence 3): jpg"));
    for (const ShardSample& sample : index.samples)
      EXPECT_EQ(sample.defect,
                sample.key.size() == 1
                    ? ""
                    : "duplicate member '.jpg' of sample 'a' in this shard; the first one is used");
  }
}

TEST(ShardIndex, MarksASampleWithASparseMember) {
  TarListing listing = listing_of({"a.jpg", "b.jpg"});
  listing.members[1].is_sparse = true;
  const ShardIndex index = index_of(listing);
  EXPECT_EQ(index.samples[0].defect, "");
  EXPECT_EQ(index.samples[1].defect, "member '.jpg' is a sparse file, which is not supported");
}

ShardIndex awkward_index() {
  return {.samples = {{.key = "a b\nc 5 ",
                       .members = {{"jpg", {512, 77}}, {"t x", {1 << 20, 0}}},
                       .defect = "not\n3 good"},
                      {.key = "", .members = {}},
                      {.key = "\xff\x01", .members = {{"json", {~uint64_t{0}, 3}}}}},
          .error = "truncated\n in 'x'"};
}

TEST(ShardIndexFile, RoundTripsArbitraryNames) {
  const ShardStamp stamp = {.bytes = 12345, .modified_ns = -5};
  const std::string text = format_shard_index(awkward_index(), stamp);
  EXPECT_EQ(parse_shard_index(text, stamp), awkward_index());
  EXPECT_EQ(parse_shard_index(format_shard_index({}, stamp), stamp), ShardIndex{});
}

TEST(ShardIndexFile, IsRejectedForAShardWithAnotherSizeOrTime) {
  const std::string text = format_shard_index(awkward_index(), {.bytes = 5, .modified_ns = 6});
  EXPECT_TRUE(parse_shard_index(text, {.bytes = 5, .modified_ns = 6}));
  EXPECT_FALSE(parse_shard_index(text, {.bytes = 6, .modified_ns = 6}));
  EXPECT_FALSE(parse_shard_index(text, {.bytes = 5, .modified_ns = 7}));
}

TEST(ShardIndexFile, IsRejectedIfAnyByteIsWrongOrMissing) {
  const ShardStamp stamp = {.bytes = 5, .modified_ns = 6};
  const std::string text = format_shard_index(awkward_index(), stamp);
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(parse_shard_index(text.substr(0, i), stamp)) << i;
    std::string corrupt = text;
    corrupt[i] ^= 1;
    EXPECT_FALSE(parse_shard_index(corrupt, stamp)) << i;
  }
  EXPECT_FALSE(parse_shard_index(text + "x", stamp));
}

TEST(ShardIndexFile, IsRejectedIfItHasAnotherVersion) {
  const ShardStamp stamp = {.bytes = 5, .modified_ns = 6};
  std::string text = format_shard_index(awkward_index(), stamp);
  text.resize(text.size() - 65);
  text.replace(text.find("version 2"), 9, "version 1");
  EXPECT_FALSE(parse_shard_index(text + sha256(text) + "\n", stamp));
}

TEST(ShardIndexFile, IsNextToTheShardOrInTheCacheUnderAUniqueName) {
  const std::vector<fs::path> files = shard_index_files("/data/a/0.tar", "/cache");
  ASSERT_THAT(files, SizeIs(2));
  EXPECT_EQ(files[0], "/data/a/0.tar.index");
  EXPECT_EQ(files[1].parent_path(), "/cache");
  EXPECT_THAT(files[1].filename().string(), testing::MatchesRegex("0\\.tar-[0-9a-f]{16}\\.index"));
  EXPECT_NE(shard_index_files("/data/b/0.tar", "/cache")[1], files[1]);
  EXPECT_EQ(shard_index_files("/data/a/../a/0.tar", "/cache")[1], files[1]);
}

/// Sets an environment variable for the duration of a test.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST(ShardIndexFile, DefaultsToTheUsersCache) {
  const ScopedVariable home("HOME", "/home/someone");
  {
    const ScopedVariable cache("XDG_CACHE_HOME", "");
    EXPECT_EQ(shard_index_files("/0.tar", "")[1].parent_path(), "/home/someone/.cache/dalle");
  }
  {
    const ScopedVariable cache("XDG_CACHE_HOME", "/fast");
    EXPECT_EQ(shard_index_files("/0.tar", "")[1].parent_path(), "/fast/dalle");
  }
  const ScopedVariable no_cache("XDG_CACHE_HOME", "");
  const ScopedVariable no_home("HOME", "");
  EXPECT_THAT(shard_index_files("/0.tar", ""), SizeIs(1));
}

class StoredIndexTest : public testing::Test {
 protected:
  StoredIndexTest() { write_tar(shard_, {{"a.jpg", "image"}, {"a.txt", "caption"}}); }

  TemporaryDirectory folder_;
  fs::path shard_ = folder_ / "0.tar";
  fs::path cache_ = folder_ / "cache";
};

TEST_F(StoredIndexTest, IsComputedOnceAndThenLoaded) {
  EXPECT_FALSE(load_shard_index(shard_, cache_));
  const ShardIndex made = make_shard_index(shard_, cache_);
  EXPECT_THAT(described(made), ElementsAre("a: jpg txt"));
  EXPECT_TRUE(fs::exists(folder_ / "0.tar.index"));
  EXPECT_FALSE(fs::exists(cache_));
  EXPECT_EQ(load_shard_index(shard_, cache_), made);
}

TEST_F(StoredIndexTest, IsInTheCacheIfTheFolderOfTheShardIsReadOnly) {
  fs::create_directory(folder_ / "0.tar.index");  // simulates a read-only folder, even for root
  const ShardIndex made = make_shard_index(shard_, cache_);
  EXPECT_EQ(std::distance(fs::directory_iterator(cache_), {}), 1);
  EXPECT_EQ(load_shard_index(shard_, cache_), made);
}

TEST_F(StoredIndexTest, IsRecomputedWithAWarningIfItCannotBeStored) {
  fs::create_directory(folder_ / "0.tar.index");
  write_file_atomically(cache_, "a file where the cache should be");
  testing::internal::CaptureStderr();
  const ShardIndex made = make_shard_index(shard_, cache_);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("0.tar: cannot store its index, which will be recomputed at every start"));
  EXPECT_THAT(described(made), ElementsAre("a: jpg txt"));
  EXPECT_FALSE(load_shard_index(shard_, cache_));
}

TEST_F(StoredIndexTest, IsStaleIfTheShardWasReplaced) {
  make_shard_index(shard_, cache_);
  write_tar(shard_, {{"b.jpg", "image"}, {"b.txt", "caption"}});  // has the same size
  fs::last_write_time(shard_, fs::last_write_time(shard_) + std::chrono::seconds(1));
  EXPECT_FALSE(load_shard_index(shard_, cache_));
  EXPECT_THAT(described(make_shard_index(shard_, cache_)), ElementsAre("b: jpg txt"));
  EXPECT_THAT(described(*load_shard_index(shard_, cache_)), ElementsAre("b: jpg txt"));
}

TEST_F(StoredIndexTest, RemembersThatTheShardIsTruncated) {
  const std::string intact = read_file(shard_);
  write_file_atomically(shard_, intact.substr(0, 1024 + 515));
  const ShardIndex made = make_shard_index(shard_, cache_);
  EXPECT_EQ(made.error, "truncated in member 'a.txt'");
  EXPECT_EQ(load_shard_index(shard_, cache_)->error, made.error);
}

TEST_F(StoredIndexTest, OfAMissingShardIsAnError) {
  fs::remove(shard_);
  EXPECT_THAT(error_of([&] { load_shard_index(shard_, cache_); }),
              HasSubstr("0.tar: cannot read: No such file"));
}

}  // namespace
}  // namespace dalle
