#include "tensor/to_device.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

TEST(ToDeviceTest, CopiesNothingThatIsThereAlready) {
  const auto tensor = torch::arange(6).view({2, 3});
  EXPECT_TRUE(to_device(tensor, at::kCPU).is_same(tensor));
}

}  // namespace
}  // namespace dalle
