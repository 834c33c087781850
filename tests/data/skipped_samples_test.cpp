#include "data/skipped_samples.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using testing::HasSubstr;

std::vector<std::string> keys_in(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  std::vector<std::string> keys;
  for (std::string line; std::getline(lines, line);)
    keys.push_back(nlohmann::json::parse(line).at("key").get<std::string>());
  return keys;
}

void write(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

template <class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SkippedSamplesTest, ListsEachSampleOnceImmediately) {
  const TemporaryDirectory folder;
  SkippedSamples skipped(folder / "skipped.jsonl", 100, 0.5);
  skipped.add("a.jpg", "truncated");
  EXPECT_EQ(read_file(folder / "skipped.jsonl"), "{\"key\":\"a.jpg\",\"reason\":\"truncated\"}\n");
  skipped.add("a.jpg", "truncated");
  skipped.add("b\n\".jpg", "empty");
  EXPECT_THAT(keys_in(folder / "skipped.jsonl"), testing::ElementsAre("a.jpg", "b\n\".jpg"));
}

TEST(SkippedSamplesTest, AppendsToAnExistingFile) {
  const TemporaryDirectory folder;
  SkippedSamples(folder / "skipped.jsonl", 100, 0.5).add("a", "bad");
  SkippedSamples resumed(folder / "skipped.jsonl", 100, 0.5);
  resumed.add("a", "bad");
  resumed.add("b", "bad");
  EXPECT_THAT(keys_in(folder / "skipped.jsonl"), testing::ElementsAre("a", "b"));
}

TEST(SkippedSamplesTest, RemovesAnIncompleteLastLine) {
  const std::string complete = "{\"key\":\"a\",\"reason\":\"bad\"}\n";
  const std::string incomplete = "{\"key\":\"b\",\"reason\":\"bad\"}";
  for (size_t length = 1; length <= incomplete.size(); ++length) {
    const TemporaryDirectory folder;
    write(folder / "skipped.jsonl", complete + incomplete.substr(0, length));
    SkippedSamples skipped(folder / "skipped.jsonl", 100, 0.5);
    skipped.add("c", "bad");
    EXPECT_THAT(keys_in(folder / "skipped.jsonl"), testing::ElementsAre("a", "c"));
  }
}

TEST(SkippedSamplesTest, RecognizesAKeyThatIsNotUtf8AfterResuming) {
  const TemporaryDirectory folder;
  const std::string key = "caf\xe9.jpg";
  SkippedSamples(folder / "skipped.jsonl", 100, 0.5).add(key, "bad \xff name");
  SkippedSamples resumed(folder / "skipped.jsonl", 100, 0.5);
  resumed.add(key, "bad");
  EXPECT_EQ(keys_in(folder / "skipped.jsonl").size(), 1u);
}

TEST(SkippedSamplesTest, EndsTheRunExactlyAboveTheAllowedFraction) {
  for (const auto& [fraction, allowed] : {std::pair{0.0, 0}, {0.05, 2}, {0.1, 4}, {1.0, 40}}) {
    const TemporaryDirectory folder;
    SkippedSamples skipped(folder / "skipped.jsonl", 40, fraction);
    for (int i = 0; i < allowed; ++i) {
      skipped.add(std::to_string(i), "bad");
      skipped.add(std::to_string(i), "bad");
    }
    EXPECT_EQ(keys_in(folder / "skipped.jsonl").size(), static_cast<size_t>(allowed));
    if (allowed < 40) {
      EXPECT_THROW(skipped.add("one more", "bad"), Error);
      EXPECT_THROW(skipped.add("0", "bad"), Error) << "still too many";
    }
  }
}

TEST(SkippedSamplesTest, ReportsCountSampleAndFile) {
  const TemporaryDirectory folder;
  SkippedSamples skipped(folder / "skipped.jsonl", 40, 0.05);
  skipped.add("a", "bad");
  skipped.add("b", "bad");
  EXPECT_EQ(
      message_of([&] { skipped.add("c.jpg", "truncated"); }),
      "3 of 40 samples cannot be used, more than the 5% that data.max_invalid_fraction allows; the "
      "last one is c.jpg: truncated (all are listed in " +
          (folder / "skipped.jsonl").string() + ")");
  EXPECT_THAT(keys_in(folder / "skipped.jsonl"), testing::ElementsAre("a", "b", "c.jpg"));
}

TEST(SkippedSamplesTest, LogsTheFirstFewOnOneLineEach) {
  SkippedSamples skipped("", 1000, 1.0);
  testing::internal::CaptureStderr();
  for (int i = 0; i < 100; ++i) skipped.add(fmt::format("image\n{}", i), "bad");
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr(R"({"key":"image\n0","reason":"bad"})"));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 11) << log;
}

TEST(SkippedSamplesTest, IsThreadSafe) {
  const TemporaryDirectory folder;
  SkippedSamples skipped(folder / "skipped.jsonl", 1000, 1.0);
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread)
      threads.emplace_back([&skipped, thread] {
        for (int i = 0; i < 100; ++i) skipped.add(std::to_string(i + 50 * thread), "bad");
      });
  }
  EXPECT_EQ(keys_in(folder / "skipped.jsonl").size(), 250u);
}

TEST(SkippedSamplesTest, NamesAFileItCannotUse) {
  const TemporaryDirectory folder;
  write(folder / "list.jsonl", "{\"key\":\"a\",\"reason\":\"bad\"}\n[1, 2]\n");
  EXPECT_THAT(message_of([&] { SkippedSamples(folder / "list.jsonl", 10, 0.5); }),
              testing::AllOf(HasSubstr("list.jsonl:2: found"), HasSubstr("[1, 2]"),
                             HasSubstr("expected {\"key\": ..., \"reason\": ...}")));
  EXPECT_THAT(message_of([&] { SkippedSamples(folder.path(), 10, 0.5); }),
              HasSubstr("expected a file, found a directory"));
  EXPECT_THAT(message_of([&] { SkippedSamples(folder / "none" / "x.jsonl", 10, 0.5); }),
              HasSubstr("x.jsonl: cannot write: No such file or directory"));
}

/// The lists of several ranks for a data set of 100 samples, of which 5 may be invalid.
class SkippedByRanksTest : public testing::Test {
 protected:
  std::filesystem::path list(int64_t rank) const { return folder_ / fmt::format("rank{}", rank); }

  SkippedSamples of_rank(int64_t rank, int64_t ranks) const {
    std::vector<std::filesystem::path> others;
    for (int64_t other = 0; other < ranks; ++other)
      if (other != rank) others.push_back(list(other));
    return {list(rank), 100, 0.05, others};
  }

  TemporaryDirectory folder_;
};

TEST_F(SkippedByRanksTest, TheLimitCountsWhatAllRanksSkipped) {
  SkippedSamples first = of_rank(0, 3), second = of_rank(1, 3), third = of_rank(2, 3);
  for (const char* key : {"a", "b", "c"}) first.add(key, "bad");
  for (const char* key : {"d", "e"}) second.add(key, "bad");
  third.add("a", "bad");
  EXPECT_EQ(message_of([&] { third.add("b", "bad"); }), "no error") << "known to the first";
  EXPECT_THAT(message_of([&] { third.add("f", "bad"); }), HasSubstr("6 of 100 samples"));
  EXPECT_THAT(message_of([&] { second.add("g", "bad"); }), HasSubstr("7 of 100 samples"));
}

TEST_F(SkippedByRanksTest, CountsASampleThatAllRanksSkipOnce) {
  for (int64_t rank = 0; rank < 4; ++rank) {
    SkippedSamples skipped = of_rank(rank, 4);
    for (const char* key : {"a", "b", "c", "d", "e"}) skipped.add(key, "bad");
    EXPECT_EQ(keys_in(list(rank)).size(), 5u);
  }
}

}  // namespace
}  // namespace dalle
