#include "core/log.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "child_process.h"
#include "core/files.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

int64_t lines_in(const std::filesystem::path& path) {
  return std::ranges::count(read_file(path), '\n');
}

/// To be run in a child process: standard error becomes a pipe without a reader.
void lose_the_reader_of_standard_error() {
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  if (::pipe(ends) != 0 || ::dup2(ends[1], STDERR_FILENO) < 0) ::_exit(98);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Log, ContinuesInTheFileWhenStandardErrorIsClosed) {
  const TemporaryDirectory folder;
  const int status = exit_status_in_child([&] {
    lose_the_reader_of_standard_error();
    open_log_file(folder / "log.txt");
    for (int i = 0; i < 3; ++i) log_info("line {}", i);
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(lines_in(folder / "log.txt"), 3);
}

TEST(Log, OpensFilesWhileOtherThreadsLog) {
  const TemporaryDirectory folder;
  const int status = exit_status_in_child([&] {
    lose_the_reader_of_standard_error();
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([](const std::stop_token& stop) {
        while (!stop.stop_requested()) log_info("a line");
      });
    for (int i = 0; i < 10; ++i) {
      open_log_file(folder / ("log-" + std::to_string(i)));
      set_console_rank(i);
    }
    threads.clear();
    log_info("the last line");
  });
  EXPECT_EQ(status, 0);
  const std::string last = read_file(folder / "log-9");
  EXPECT_TRUE(last.ends_with(" the last line\n")) << last;
  EXPECT_FALSE(read_file(folder / "log-8").ends_with(" the last line\n"));
}

TEST(Log, WritesNothingToAFileThatIsClosed) {
  const TemporaryDirectory folder;
  const int status = exit_status_in_child([&] {
    lose_the_reader_of_standard_error();
    open_log_file(folder / "log.txt");
    log_info("a line");
    close_log_file();
    log_info("another line");
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(lines_in(folder / "log.txt"), 1);
}

}  // namespace
}  // namespace dalle
