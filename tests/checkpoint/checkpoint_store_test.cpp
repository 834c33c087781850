// A folder of checkpoints: what survives crashes, full disks and corrupt files.

#include <sys/resource.h>

#include <csignal>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_content.h"
#include "child_process.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

/// Opens the store and loads, and returns the step and what was written to standard error.
std::pair<int64_t, std::string> load_with_warnings(const fs::path& folder) {
  testing::internal::CaptureStderr();
  const CheckpointStore store(folder, 3);
  const auto content = read_newest_checkpoint(folder);
  return {content ? content->step : -1, testing::internal::GetCapturedStderr()};
}

TEST(CheckpointStore, FallsBackToTheNewestThatVerifiesAndSaysSo) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 3);
  for (const int64_t step : {100, 200, 300}) store.save(content_of(step));
  put(folder / "step-00000300" / "weights.safetensors", "x");
  fs::remove(folder / "step-00000200" / "config.yaml");
  const auto [step, warnings] = load_with_warnings(folder.path());
  EXPECT_EQ(step, 100);
  EXPECT_THAT(warnings, AllOf(HasSubstr("skipping the checkpoint step-00000300"),
                              HasSubstr("weights.safetensors: truncated: 1 bytes"),
                              HasSubstr("skipping the checkpoint step-00000200"),
                              HasSubstr("config.yaml: cannot read")));

  put(folder / "step-00000100" / "manifest.json", "{}");
  testing::internal::CaptureStderr();
  EXPECT_THAT(error_of([&] { read_newest_checkpoint(folder.path()); }),
              HasSubstr("none of its 3 checkpoints can be used"));
  testing::internal::GetCapturedStderr();
}

TEST(CheckpointStore, SavingAfterAFallbackRemovesCorruptLaterStepsAndReplacesTheSameStep) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 3);
  for (const int64_t step : {100, 200, 300}) store.save(content_of(step));
  put(folder / "step-00000200" / "weights.safetensors", "x");
  put(folder / "step-00000300" / "weights.safetensors", "x");
  store.save(content_of(200, 1));
  EXPECT_TRUE(same(read_newest_checkpoint(folder.path()).value(), content_of(200, 1)));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-00000100", "step-00000200"));
}

TEST(CheckpointStore, DoesNotRelyOnItsPointers) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 2);
  store.save(content_of(100), 1.0);
  store.save(content_of(200), 2.0);
  put(folder / "latest", "step-99999999\n");
  fs::remove(folder / "best");
  const auto [step, warnings] = load_with_warnings(folder.path());
  EXPECT_EQ(step, 200);
  EXPECT_EQ(warnings, "");
  store.save(content_of(300), 3.0);
  EXPECT_EQ(read_file(folder / "latest"), "step-00000300\n");
  EXPECT_EQ(read_file(folder / "best"), "step-00000100\n");
}

TEST(CheckpointStore, ClearsLeftoversAndNothingElse) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 2).save(content_of(100));
  make_directories(folder / "step-00000200.part");
  put(folder / "step-00000200.part" / "weights.safetensors", "half");
  put(folder / "latest.part", "half");
  put(folder / "mine.part", "kept");
  make_directories(folder / "mine.old");
  const auto [step, warnings] = load_with_warnings(folder.path());
  EXPECT_EQ(step, 100);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("latest", "mine.old", "mine.part", "step-00000100"));
}

/// As content_of(), of fewer files: each one is flushed to the disk in each of the many saves.
CheckpointContent small_content_of(int64_t step, int variant = 0) {
  CheckpointContent content = content_of(step, variant);
  content.tensors.erase("optimizer");
  content.files.erase("tokenizer.model");
  return content;
}

/// Dies before change number `stop` of a save; false if it got to the end.
bool die_in_save(const fs::path& folder, const CheckpointContent& content, int64_t keep_last,
                 int stop) {
  const int status = exit_status_in_child([&] {
    int changes = 0;
    CheckpointStore store(folder, keep_last, [&](std::string_view) {
      if (changes++ == stop) ::_exit(1);
    });
    store.save(content, 0.5);
  });
  EXPECT_NE(status, kThrew);
  return status == 1;
}

TEST(CheckpointStore, DeathAtAnyMomentLeavesTheOldOrTheNewCheckpoint) {
  struct Case {
    const char* name;
    CheckpointContent old_one, new_one;
    int64_t keep_last;
  };
  const Case cases[] = {
      {"next step", small_content_of(100), small_content_of(200), 1},
      {"next step, old one kept", small_content_of(100), small_content_of(200), 2},
      {"same step", small_content_of(100), small_content_of(100, 1), 1}};
  for (const auto& [name, old_one, new_one, keep_last] : cases) {
    bool died = true;
    int stop = 0;
    for (; died; ++stop) {
      const TemporaryDirectory folder;
      CheckpointStore(folder.path(), keep_last).save(old_one, 1.0);
      died = die_in_save(folder.path(), new_one, keep_last, stop);
      CheckpointStore again(folder.path(), keep_last);
      const CheckpointContent loaded = read_newest_checkpoint(folder.path()).value();
      EXPECT_TRUE(same(loaded, new_one) || (died && same(loaded, old_one))) << name << stop;
      again.save(new_one, 0.5);  // and training continues, with nothing left behind
      EXPECT_TRUE(same(read_newest_checkpoint(folder.path()).value(), new_one)) << name << stop;
      for (const std::string& entry : names_in(folder.path()))
        EXPECT_FALSE(entry.ends_with(".part") || entry.ends_with(".old")) << entry;
    }
    EXPECT_GE(stop, 9) << name;  // there were that many moments to die in, and one more run
  }
}

TEST(CheckpointStore, AFullDiskLeavesTheEarlierCheckpointsAndSaysWhatToDo) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 1);
  store.save(content_of(100));
  CheckpointContent large = content_of(200);
  large.tensors["weights"].emplace_back("large", torch::zeros({5000}));
  const int status = exit_status_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);  // a limit on the file's size stands in for a full disk
    const rlimit limit{9000, 9000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = error_of([&] { store.save(large); });
    for (const char* part : {"cannot save the checkpoint of step 200: ",
                             "step-00000200.part/weights.safetensors: cannot write: File too large",
                             "Earlier checkpoints are intact: free some space"})
      if (message.find(part) == std::string::npos) ::_exit(1);
  });
  EXPECT_EQ(status, 0);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-00000100"));
  EXPECT_TRUE(same(read_newest_checkpoint(folder.path()).value(), content_of(100)));
}

TEST(CheckpointStore, AReadOnlyFolderIsNamed) {
  const TemporaryDirectory folder;
  CheckpointStore(folder / "store", 1).save(content_of(100));
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder / "store", fs::perms(0555));
  const int status = exit_status_in_child([&] {
    become_nobody();
    CheckpointStore store(folder / "store", 1);
    if (!same(read_newest_checkpoint(folder / "store").value(), content_of(100))) ::_exit(1);
    const std::string message = error_of([&] { store.save(content_of(200)); });
    ::_exit(message.find("cannot create the directory: Permission denied") == std::string::npos);
  });
  fs::permissions(folder / "store", fs::perms(0755));
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace dalle
