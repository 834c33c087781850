#include "train/run_folder.h"

#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "child_process.h"
#include "data/folder_dataset.h"
#include "error_of.h"
#include "experiment/versions.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

TEST(RunFolder, IsCreatedWithItsFoldersAndOpensAgain) {
  const TemporaryDirectory folder;
  {
    const RunFolder run(folder / "runs" / "a");
    EXPECT_TRUE(fs::is_directory(run.events()));
    EXPECT_TRUE(fs::is_directory(run.samples()));
    EXPECT_EQ(run.checkpoints("dvae"), folder / "runs" / "a" / "checkpoints" / "dvae");
  }
  EXPECT_NO_THROW(RunFolder(folder / "runs" / "a"));
}

TEST(RunFolder, IsNoPartOfTheDataInWhichItLies) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a.jpg", "image");
  for (const char* name : {"runs/a", "runs/b", "."}) {
    const RunFolder run(folder / name);
    record_versions(run.versions());
    write_file_atomically(run.samples() / "0.png", "image");
    if (run.root.filename() == "b") {
      fs::remove(run.lock());  // a copy
      write_file_atomically(run.config(), "");
    }
  }
  move_run_aside(folder / "runs/a");
  testing::internal::CaptureStderr();
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      HasSubstr("ignored the output of training runs: " + folder.path().string() + " and 2 more"));
  ASSERT_EQ(dataset.size(), 1);
  EXPECT_EQ(dataset.key(0), "a.jpg");
}

TEST(RunFolder, BelongsToOneProcess) {
  const TemporaryDirectory folder;
  std::optional<RunFolder> held(folder / "run");
  EXPECT_THAT(error_of([&] { RunFolder second(folder / "run"); }),
              HasSubstr("run/run.lock: in use by another process (PID"));
  EXPECT_THAT(error_of([&] { move_run_aside(folder / "run"); }),
              HasSubstr("run/run.lock: in use by another process (PID"));
  EXPECT_TRUE(fs::exists(folder / "run"));
  held.reset();
  EXPECT_NO_THROW(RunFolder(folder / "run"));
}

TEST(RunFolder, AFileInTheWayIsNamed) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "run", "mine");
  EXPECT_THAT(error_of([&] { RunFolder run(folder / "run"); }),
              HasSubstr("/run: a file is in the way of the run folder"));
  EXPECT_THAT(error_of([&] { move_run_aside(folder / "run"); }), HasSubstr("a file is in the way"));
  EXPECT_THAT(error_of([&] { RunFolder run(folder / "run" / "inner"); }),
              HasSubstr("/run/inner: cannot create the directory: Not a directory"));
  EXPECT_EQ(read_file(folder / "run"), "mine");
}

TEST(RunFolder, AReadOnlyFolderIsNamed) {
  const TemporaryDirectory folder;
  { const RunFolder run(folder / "run"); }
  fs::permissions(folder / "run", fs::perms(0555));
  fs::permissions(folder.path(), fs::perms(0555));
  const int status = exit_status_in_child([&] {
    become_nobody();
    const std::string open = error_of([&] { RunFolder run(folder / "run"); });
    const std::string make = error_of([&] { RunFolder run(folder / "new"); });
    const std::string move = error_of([&] { move_run_aside(folder / "run"); });
    const std::string expected = "/run: cannot write into the run folder: Permission denied";
    ::_exit(
        (open.find(expected) == std::string::npos) * 1 +
        (make.find("/new: cannot create the directory: Permission denied") == std::string::npos) *
            2 +
        (move.find(expected) == std::string::npos) * 4);
  });
  fs::permissions(folder / "run", fs::perms(0755));
  EXPECT_EQ(status, 0);
}

TEST(MoveRunAside, TakesTheFirstFreeNameAndLeavesTheRestAlone) {
  const TemporaryDirectory folder;
  for (int number = 1; number <= 3; ++number) {
    {
      const RunFolder run(folder / "run");
      write_file_atomically(run.metrics(), std::to_string(number));
    }
    const auto aside = move_run_aside(fs::path(folder / "run") / "");  // a slash at the end
    ASSERT_EQ(aside, folder / ("run.old-" + std::to_string(number)));
    EXPECT_EQ(read_file(*aside / "metrics.jsonl"), std::to_string(number));
    EXPECT_FALSE(fs::exists(folder / "run"));
  }
  EXPECT_EQ(move_run_aside(folder / "run"), std::nullopt);
}

TEST(MoveRunAside, OfALinkMovesTheFolderOnItsOwnDisk) {
  const TemporaryDirectory folder;
  const fs::path disk = folder / "disk";
  make_directories(disk / "run");
  fs::create_directory_symlink(disk / "run", folder / "link");
  for (const std::string number : {"1", "2"}) {
    {
      const RunFolder run(folder / "link");
      write_file_atomically(run.metrics(), number);
    }
    const auto aside = move_run_aside(fs::path(folder / "link") / "");
    EXPECT_EQ(aside, fs::canonical(disk) / ("run.old-" + number));
    EXPECT_EQ(read_file(*aside / "metrics.jsonl"), number);
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_TRUE(fs::is_empty(disk / "run"));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2);
}

TEST(RunFolder, ALinkToNowhereIsNamed) {
  const TemporaryDirectory folder;
  fs::create_directory_symlink(folder / "disk", folder / "link");
  const std::string expected =
      "/link: a symbolic link to " + (folder / "disk").string() + ", which does not exist";
  EXPECT_THAT(error_of([&] { RunFolder run(folder / "link"); }), HasSubstr(expected));
  EXPECT_THAT(error_of([&] { move_run_aside(folder / "link"); }), HasSubstr(expected));
}

TEST(MoveRunAside, RefusesAFolderThatIsNoRuns) {
  const TemporaryDirectory folder;
  make_directories(folder / "home");
  write_file_atomically(folder / "home" / "thesis.tex", "precious");
  EXPECT_THAT(error_of([&] { move_run_aside(folder / "home"); }),
              HasSubstr("/home: not a run's folder (no config.yaml)"));
  EXPECT_TRUE(fs::exists(folder / "home" / "thesis.tex"));
}

}  // namespace
}  // namespace dalle
