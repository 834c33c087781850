#include "core/files.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "child_process.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;

TEST(Files, WriteReplacesTheFileAndLeavesNoTemporaryFile) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a", "a long first content");
  write_file_atomically(folder / "a", "second");
  EXPECT_EQ(read_file(folder / "a"), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Files, ATrailingSlashIsRemovedExceptFromTheRoot) {
  EXPECT_EQ(without_trailing_slash("a/b/"), "a/b");
  EXPECT_EQ(without_trailing_slash("a/b"), "a/b");
  EXPECT_EQ(without_trailing_slash("/"), "/");
  EXPECT_EQ(without_trailing_slash(""), "");
}

TEST(Files, ReadingCanBeginAtAnyByte) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a", "0123456789");
  EXPECT_EQ(read_file(folder / "a", 4), "456789");
  EXPECT_EQ(read_file(folder / "a", 10), "");
  EXPECT_EQ(read_file(folder / "a", 1'000'000), "");
}

TEST(Files, AFailedWriteKeepsTheOldContent) {
  const TemporaryDirectory folder;
  std::filesystem::create_directory(folder / "a");  // renaming a file to a directory fails
  EXPECT_THAT(error_of([&] { write_file_atomically(folder / "a", "x"); }),
              HasSubstr("/a: cannot write"));
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.part"));
}

TEST(Files, AFullDiskKeepsTheOldContentAndLeavesNoTemporaryFile) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a", "old");
  const int status = exit_status_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);  // a file size limit simulates a full disk
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message =
        error_of([&] { write_file_atomically(folder / "a", std::string(5000, 'x')); });
    ::_exit(message.find("cannot write: File too large") == std::string::npos);
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.part"));
}

TEST(Files, ReadErrorsNameThePathAndTheReason) {
  const TemporaryDirectory folder;
  EXPECT_THAT(error_of([&] { read_file(folder / "none"); }),
              HasSubstr("none: cannot read: No such file"));
  EXPECT_THAT(error_of([&] { read_file(folder.path()); }),
              HasSubstr("expected a file, found a directory"));
}

TEST(Files, ReadReportsAnErrorInTheMiddleOfAFile) {
  EXPECT_THAT(error_of([] { read_file("/proc/self/mem"); }), HasSubstr("mem: cannot read: "));
}

TEST(Files, ReadHandlesFilesOfUnknownSize) {
  EXPECT_THAT(read_file("/proc/self/status"), HasSubstr("Threads:"));
}

TEST(Files, Sha256MatchesThePublishedVectors) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Files, Sha256OfAFileMatchesThatOfItsBytes) {
  const TemporaryDirectory folder;
  const std::string bytes(3'000'001, 'x');  // larger than the read buffer
  write_file_atomically(folder / "a", bytes);
  EXPECT_EQ(sha256_of_file(folder / "a"), sha256(bytes));
}

TEST(Files, DigestErrorsNameThePathAndTheReason) {
  const TemporaryDirectory folder;
  EXPECT_THAT(error_of([&] { digest_of_file(folder / "none"); }),
              HasSubstr("none: cannot read: No such file"));
  EXPECT_THAT(error_of([&] { digest_of_file(folder.path()); }),
              HasSubstr("expected a file, found a directory"));
}

TEST(FileWriter, WritesPiecesAndReturnsTheirDigest) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a", "content that was there before and is longer");
  FileWriter writer(folder / "a");
  writer.write("one ");
  writer.write("");
  writer.write("two");
  EXPECT_EQ(writer.finish(), (FileDigest{.size = 7, .sha256 = sha256("one two")}));
  EXPECT_EQ(read_file(folder / "a"), "one two");
  EXPECT_EQ(digest_of_file(folder / "a"), (FileDigest{.size = 7, .sha256 = sha256("one two")}));
}

TEST(FileWriter, ErrorsNameThePathAndTheReason) {
  const TemporaryDirectory folder;
  EXPECT_THAT(error_of([&] { FileWriter writer(folder / "none" / "a"); }),
              HasSubstr("none/a: cannot write: No such file"));
  const int status = exit_status_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    FileWriter writer(folder / "a");
    writer.write(std::string(900, 'x'));
    const std::string message = error_of([&] { writer.write(std::string(900, 'x')); });
    ::_exit(!message.ends_with("/a: cannot write: File too large"));
  });
  EXPECT_EQ(status, 0);
}

TEST(Files, CheckCanWriteDoesNotWrite) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a", "content");
  check_can_write(folder / "a");
  check_can_write(folder / "b");
  EXPECT_EQ(read_file(folder / "a"), "content");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  EXPECT_THAT(error_of([&] { check_can_write(folder / "none" / "a"); }),
              HasSubstr("none/a: cannot write: No such file or directory"));
  EXPECT_THAT(error_of([&] { check_can_write(folder.path()); }), HasSubstr("found a directory"));
}

TEST(FileLock, IsExclusiveAndNamesItsHolder) {
  const TemporaryDirectory folder;
  std::optional<FileLock> held(folder / "lock");
  EXPECT_THAT(error_of([&] { FileLock second(folder / "lock"); }),
              HasSubstr("in use by another process (PID " + std::to_string(::getpid()) + " on "));
  held.reset();
  EXPECT_NO_THROW(FileLock(folder / "lock"));
}

/// Makes flock() fail in this process, as on a file system without locks.
void fail_locks(uint32_t with_errno) {
  std::array<sock_filter, 4> steps = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_flock, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | with_errno),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{steps.size(), steps.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    ::_exit(97);
}

TEST(FileLock, ReportsAFileSystemWithoutLocks) {
  const TemporaryDirectory folder;
  const auto message_is = [&](uint32_t number, const std::string& expected) {
    return exit_status_in_child([&] {
             fail_locks(number);
             const std::string message = error_of([&] { FileLock lock(folder / "lock"); });
             ::_exit(message.find("/lock: cannot lock: " + expected) == std::string::npos);
           }) == 0;
  };
  EXPECT_TRUE(message_is(ENOSYS, "Function not implemented; this file system does not support"));
  EXPECT_TRUE(message_is(ENOLCK, "No locks available; this file system does not support file"));
  EXPECT_TRUE(message_is(EIO, "Input/output error"));
}

TEST(FileLock, IsReleasedWhenItsHolderDies) {
  const TemporaryDirectory folder;
  const int status = exit_status_in_child([&] {
    new FileLock(folder / "lock");  // never destroyed
    ::_exit(0);
  });
  EXPECT_EQ(status, 0);
  EXPECT_NO_THROW(FileLock(folder / "lock"));
}

}  // namespace
}  // namespace dalle
