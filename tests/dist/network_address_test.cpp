#include "dist/network_address.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/loopback.h"

namespace dalle {
namespace {

using ::testing::StartsWith;

TEST(NetworkAddress, OfThisMachineTowardsItselfIsItsLoopback) {
  EXPECT_THAT(address_towards("127.0.0.1"), StartsWith("127."));
  EXPECT_TRUE(is_loopback(address_towards("localhost")));
}

TEST(NetworkAddress, TowardsAnUnknownNameIsEmpty) {
  EXPECT_EQ(address_towards("no-such-host.invalid"), "");
}

TEST(NetworkAddress, ExplainsWhyANameDoesNotResolve) {
  EXPECT_EQ(why_unresolved("127.0.0.1"), "");
  EXPECT_EQ(why_unresolved("localhost"), "");
  EXPECT_NE(why_unresolved("no-such-host.invalid"), "");
}

}  // namespace
}  // namespace dalle
