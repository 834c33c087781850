#include "data/shard_dataset.h"

#include <atomic>
#include <thread>

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

class ShardDatasetTest : public testing::Test {
 protected:
  ShardDataset open(const std::string& name = "") const {
    return ShardDataset((folder_ / name).string(), folder_ / "cache");
  }

  TemporaryDirectory folder_;
};

TEST_F(ShardDatasetTest, ReadsImagesAndCaptionsOfAllShards) {
  write_tar(folder_ / "00001.tar", {{"000010000.png", "third"}, {"000010000.txt", "c"}});
  write_tar(folder_ / "00000.tar", {{"000000000.jpg", std::string("fi\0rst", 6)},
                                    {"000000000.txt", "a\nb\n"},
                                    {"000000000.json", R"({"caption": "not used"})"},
                                    {"d/1.JPEG", "second"},
                                    {"d/1.json", R"({"caption": "from JSON"})"}});
  for (int time = 0; time < 2; ++time) {  // the second time with stored indices
    const ShardDataset dataset = open();
    ASSERT_EQ(dataset.size(), 3);
    EXPECT_EQ(dataset.key(0), "00000.tar/000000000");
    EXPECT_EQ(dataset.key(1), "00000.tar/d/1");
    EXPECT_EQ(dataset.key(2), "00001.tar/000010000");
    const RawSample first = dataset.get(0);
    EXPECT_EQ(first.key, dataset.key(0));
    EXPECT_EQ(std::get<std::string>(first.image), std::string("fi\0rst", 6));
    EXPECT_THAT(first.captions, ElementsAre("a", "b"));
    EXPECT_EQ(std::get<std::string>(dataset.get(1).image), "second");
    EXPECT_THAT(dataset.captions(1), ElementsAre("from JSON"));
    EXPECT_EQ(std::get<std::string>(dataset.get(2).image), "third");
    EXPECT_THAT(dataset.captions(2), ElementsAre("c"));
  }
}

TEST_F(ShardDatasetTest, IndexesOnce) {
  write_tar(folder_ / "0.tar", {{"a.jpg", "image"}});
  testing::internal::CaptureStderr();
  open();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("indexing the shards in "));
  testing::internal::CaptureStderr();
  open();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(ShardDatasetTest, FallsBackToJsonIfTheTextIsBlank) {
  write_tar(folder_ / "0.tar", {{"a.jpg", "p"},
                                {"a.txt", " \n"},
                                {"a.json", R"({"caption": "said"})"},
                                {"b.jpg", "p"},
                                {"c.jpg", "p"},
                                {"c.json", R"({"caption": null})"}});
  const ShardDataset dataset = open();
  EXPECT_THAT(dataset.captions(0), ElementsAre("said"));
  EXPECT_THAT(dataset.captions(1), IsEmpty());
  EXPECT_THAT(dataset.captions(2), IsEmpty());
}

TEST_F(ShardDatasetTest, UsesTheFirstOfSeveralImages) {
  write_tar(folder_ / "0.tar", {{"a.seg.png", "mask"}, {"a.webp", "first"}, {"a.jpg", "second"}});
  EXPECT_EQ(std::get<std::string>(open().get(0).image), "first");
}

TEST_F(ShardDatasetTest, TreatsSamplesWithoutAnImageAsInvalid) {
  write_tar(folder_ / "0.tar", {{"a.txt", "x"}, {"b.jpg", "p"}, {"c.json", "{}"}});
  testing::internal::CaptureStderr();
  const ShardDataset dataset = open();
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("0.tar: 2 of its 3 samples are invalid; the first is a: no image among "
                        "its members .txt; expected .jpg"));
  EXPECT_EQ(dataset.size(), 3);
  EXPECT_EQ(error_of([&] { dataset.get(0); }),
            "no image among its members .txt; expected .jpg, .jpeg, .png, .webp or .bmp");
  EXPECT_EQ(std::get<std::string>(dataset.get(1).image), "p");
  EXPECT_THAT(error_of([&] { dataset.captions(2); }), HasSubstr("no image"));
}

TEST_F(ShardDatasetTest, KeepsTheReadableSamplesOfATruncatedShardAndLogsItOnce) {
  write_tar(folder_ / "0.tar",
            {{"a.jpg", std::string(600, 'a')}, {"b.jpg", std::string(600, 'b')}});
  const std::string intact = read_file(folder_ / "0.tar");
  write_file_atomically(folder_ / "0.tar", intact.substr(0, 512 + 1024 + 512 + 300));
  testing::internal::CaptureStderr();
  const ShardDataset dataset = open();
  EXPECT_EQ(std::get<std::string>(dataset.get(0).image), std::string(600, 'a'));
  EXPECT_EQ(dataset.size(), 2);
  EXPECT_EQ(error_of([&] { dataset.get(1); }),
            "only the first 1 samples of the shard can be read: "
            "truncated in member 'b.jpg'");
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(
      log, HasSubstr("0.tar: only its first 1 samples can be read: truncated in member 'b.jpg'"));
  EXPECT_EQ(log.find("truncated"), log.rfind("truncated"));
}

TEST_F(ShardDatasetTest, NamesTheSampleWithInvalidCaptions) {
  write_tar(folder_ / "0.tar",
            {{"a.jpg", "p"}, {"a.txt", "caf\xe9"}, {"b.jpg", "p"}, {"b.json", "{"}});
  const ShardDataset dataset = open();
  EXPECT_EQ(error_of([&] { dataset.get(0); }), "0.tar/a.txt: captions: byte 3 (0xe9) is not UTF-8");
  EXPECT_EQ(error_of([&] { dataset.captions(1); }),
            "0.tar/b.json: captions: not a JSON file, expected a JSON object");
}

TEST_F(ShardDatasetTest, RejectsAShardThatChangedDuringTheRun) {
  write_tar(folder_ / "0.tar", {{"a.jpg", "image"}});
  const ShardDataset dataset = open();
  write_tar(folder_ / "0.tar", {{"a.jpg", "another"}, {"b.jpg", "image"}});
  EXPECT_THAT(error_of([&] { dataset.get(0); }), HasSubstr("0.tar: has changed since"));
  fs::remove(folder_ / "0.tar");
  EXPECT_THAT(error_of([&] { dataset.get(0); }), HasSubstr("0.tar: cannot open: No such file"));
}

TEST_F(ShardDatasetTest, CountsAShardThatIsNotATarArchiveAsOneLostSample) {
  write_tar(folder_ / "0.tar", {{"a.jpg", "image"}});
  write_file_atomically(folder_ / "1.tar", "");
  write_file_atomically(folder_ / "2.tar", "<html>404</html>");
  for (int time = 0; time < 2; ++time) {  // the second time with stored indices
    testing::internal::CaptureStderr();
    const ShardDataset dataset = open();
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_THAT(log, HasSubstr("1.tar: skipped: empty, expected a tar archive"));
    EXPECT_THAT(log, testing::Not(HasSubstr("no samples")));
    ASSERT_EQ(dataset.size(), 3);
    EXPECT_EQ(std::get<std::string>(dataset.get(0).image), "image");
    EXPECT_EQ(error_of([&] { dataset.get(1); }), "empty, expected a tar archive");
    EXPECT_EQ(error_of([&] { dataset.captions(2); }), "an HTML page, expected a tar archive");
  }
}

// I/O errors may be temporary, so they must not silently reduce the data set.
TEST_F(ShardDatasetTest, RejectsAnUnreadableShard) {
  write_tar(folder_ / "0.tar", {{"a.jpg", "image"}});
  fs::create_directory(folder_ / "1.tar");  // simulates missing permissions, even for root
  EXPECT_THAT(error_of([&] { open(); }), HasSubstr("1.tar: not a regular file"));
}

TEST_F(ShardDatasetTest, TreatsDuplicateSamplesAsInvalid) {
  write_tar(folder_ / "0.tar", {{"a.jpg", "x"}, {"a.txt", "1"}, {"a.jpg", "y"}, {"a.txt", "2"}});
  const ShardDataset dataset = open();
  ASSERT_EQ(dataset.size(), 2);
  EXPECT_EQ(std::get<std::string>(dataset.get(0).image), "x");
  EXPECT_THAT(dataset.captions(0), ElementsAre("1"));
  EXPECT_EQ(error_of([&] { dataset.get(1); }),
            "duplicate member '.jpg' of sample 'a' in this shard; the first one is used");
}

TEST_F(ShardDatasetTest, RejectsShardsWithoutValidSamples) {
  write_file_atomically(folder_ / "0.tar", "no archive");
  EXPECT_THAT(error_of([&] { open(); }),
              testing::AllOf(HasSubstr("none of its 1 shards can be read; the first is 0.tar: "),
                             HasSubstr("expected a tar archive")));
  write_file_atomically(folder_ / "0.tar", "\x1f\x8b\x08");
  EXPECT_THAT(error_of([&] { open("0.tar"); }), HasSubstr("gzip-compressed (gunzip it first)"));
  write_tar(folder_ / "0.tar", {{"a.txt", "x"}});
  EXPECT_THAT(error_of([&] { open(); }), HasSubstr("0.tar/a: no image among its members .txt"));
  write_tar(folder_ / "0.tar", {});
  EXPECT_THAT(error_of([&] { open(); }), HasSubstr("its 1 shards contain no samples"));
}

TEST_F(ShardDatasetTest, ExplainsNamesWithSeveralDots) {
  NamedContents members;
  for (const char* number : {"00", "01", "02"})
    for (const char* extension : {"jpg", "txt"})
      members.emplace_back(fmt::format("IMG_2019.05.{}.{}", number, extension), "x");
  write_tar(folder_ / "0.tar", members);
  EXPECT_THAT(
      error_of([&] { open(); }),
      HasSubstr("0.tar/IMG_2019: no image among its members .05.00.jpg, .05.00.txt, "
                ".05.01.jpg and 3 more; expected .jpg, .jpeg, .png, .webp or .bmp (in "
                "WebDataset shards, the extension begins at the first dot of the file name)"));
}

TEST_F(ShardDatasetTest, ExplainsMissingCaptions) {
  write_tar(folder_ / "0.tar",
            {{"a.jpg", "p"}, {"a.cls", "3"}, {"b.jpg", "p"}, {"b.json", R"({"text": "t"})"}});
  const ShardDataset dataset = open();
  EXPECT_EQ(dataset.missing_caption(0), "no .txt or .json among its members .jpg, .cls");
  EXPECT_EQ(dataset.missing_caption(1), "no .txt with text, and no \"caption\" in its .json");
}

TEST_F(ShardDatasetTest, IsReadByManyThreadsAtOnce) {
  NamedContents members;
  for (int i = 0; i < 200; ++i)
    members.emplace_back(std::to_string(i) + ".jpg", std::string(1000 + i, static_cast<char>(i)));
  write_tar(folder_ / "0.tar", members);
  const ShardDataset dataset = open();
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread)
      threads.emplace_back([&] {
        for (int64_t i = 0; i < dataset.size(); ++i)
          wrong += std::get<std::string>(dataset.get(i).image) != members[i].second;
      });
  }
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace dalle
