#include "core/loopback.h"

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(Loopback, IsTheMachineItself) {
  for (const char* host : {"127.0.0.1", "127.0.1.1", "127.1.2.3", "::1", "localhost", "LocalHost"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host :
       {"", "0.0.0.0", "::", "10.0.0.1", "127.example.org", "1127.0.0.1", "node-127", "fe80::1"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

}  // namespace
}  // namespace dalle
