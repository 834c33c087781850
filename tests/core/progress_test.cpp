#include "core/progress.h"

#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <array>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/log.h"
#include "core/status_line.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;
using testing::EndsWith;
using testing::HasSubstr;

TEST(ProgressText, ShowsProgressAndTimeLeft) {
  EXPECT_EQ(progress_text("captions read", 50, 1000, 0, 2s),
            "captions read: 50 of 1000 (5%), 38 s left");
  EXPECT_EQ(progress_text("captions read", 50, 1000, 0, 30s),
            "captions read: 50 of 1000 (5%), 10 min left");
  EXPECT_EQ(progress_text("captions read", 50, 1000, 0, 1200s),
            "captions read: 50 of 1000 (5%), 6 h 20 min left");
}

TEST(ProgressText, EstimatesTimeFromTheWorkOfThisRun) {
  EXPECT_EQ(progress_text("codes", 600, 1000, 500, 10s), "codes: 600 of 1000 (60%), 40 s left");
  EXPECT_EQ(progress_text("codes", 500, 1000, 500, 10s), "codes: 500 of 1000 (50%)");
}

TEST(ProgressText, ShowsTheElapsedTimeIfTheTotalIsUnknown) {
  EXPECT_EQ(progress_text("files found", 12000, 0, 0, 7s), "files found: 12000 in 7 s");
}

TEST(Progress, IsSilentAboutShortWork) {
  testing::internal::CaptureStderr();
  {
    Progress progress("work", 10);
    for (int64_t done = 1; done <= 10; ++done) progress.update(done);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Progress, WritesLogLinesWithoutATerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("work", 10, 0, {.first_log_after = 0ms});
    progress.update(10);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "work: 10 of 10 (100%), 0 s left\n");
}

/// Makes standard error a terminal of 40 columns for the duration of a test.
class TerminalTest : public testing::Test {
 protected:
  void SetUp() override {
    winsize size{.ws_row = 10, .ws_col = 40, .ws_xpixel = 0, .ws_ypixel = 0};
    int terminal = -1;
    ASSERT_EQ(::openpty(&screen_, &terminal, nullptr, nullptr, &size), 0);
    former_ = ::dup(STDERR_FILENO);
    ::dup2(terminal, STDERR_FILENO);
    ::close(terminal);
  }
  ~TerminalTest() override {
    ::dup2(former_, STDERR_FILENO);
    ::close(former_);
    ::close(screen_);
  }

  /// What was written to the terminal since the last call.
  std::string written() const {
    std::string text;
    pollfd poll{.fd = screen_, .events = POLLIN, .revents = 0};
    while (::poll(&poll, 1, 0) > 0) {
      std::array<char, 4096> bytes{};
      const ssize_t count = ::read(screen_, bytes.data(), bytes.size());
      if (count <= 0) break;
      text.append(bytes.data(), static_cast<size_t>(count));
    }
    return text;
  }

 private:
  int screen_ = -1;
  int former_ = -1;
};

TEST_F(TerminalTest, ProgressRewritesOneLineAndRemovesIt) {
  {
    Progress progress("work", 10, 0, {.show_after = 0ms, .refresh_every = 0ms});
    progress.update(5);
    EXPECT_EQ(written(), "\r\x1b[Kwork: 5 of 10 (50%), 0 s left");
    progress.update(10);
    EXPECT_EQ(written(), "\r\x1b[Kwork: 10 of 10 (100%), 0 s left");
  }
  EXPECT_EQ(written(), "\r\x1b[K");
}

TEST_F(TerminalTest, LogLinesAppearAboveTheProgress) {
  Progress progress("work", 10, 0, {.show_after = 0ms});
  progress.update(5);
  written();
  log_info("something else");
  const std::string text = written();
  EXPECT_TRUE(text.starts_with("\r\x1b[K")) << text;
  EXPECT_THAT(text, HasSubstr("something else"));
  EXPECT_THAT(text, EndsWith("\nwork: 5 of 10 (50%), 0 s left"));
}

TEST_F(TerminalTest, AStatusLineNeverWraps) {
  show_status_line(std::string(100, 'x'));
  EXPECT_EQ(written(), "\r\x1b[K" + std::string(39, 'x'));
  show_status_line("");
  EXPECT_EQ(written(), "\r\x1b[K");
}

}  // namespace
}  // namespace dalle
