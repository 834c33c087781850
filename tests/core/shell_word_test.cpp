#include "core/shell_word.h"

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(ShellWordTest, QuotesOnlyWhatTheShellWouldChange) {
  EXPECT_EQ(shell_word("runs/shapes-demo/step_01.json"), "runs/shapes-demo/step_01.json");
  EXPECT_EQ(shell_word("my run"), "'my run'");
  EXPECT_EQ(shell_word("a$b"), "'a$b'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace dalle
