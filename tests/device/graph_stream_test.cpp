// Recording CUDA graphs on a GPU.

#include "sample/graph_stream.h"

#include <cstdint>

#include <c10/core/Device.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "test_device.h"

namespace dalle {
namespace {

TEST(GraphStreamTest, ReplaysWhatItRecorded) {
  auto sum = torch::zeros({}, at::device(test_device()).dtype(at::kLong));
  int64_t calls = 0;
  const auto step = [&] {
    ++calls;
    sum.add_(1);
  };
  {
    GraphStream stream(test_device());
    step();
    step();
    const auto recorded = stream.record(step);
    for (int i = 0; i < 5; ++i) recorded();
  }
  EXPECT_EQ(sum.item<int64_t>(), 7);
  EXPECT_EQ(calls, test_device().is_cuda() ? 3 : 7);
}

/// This must be the last test of this file: nothing is recorded after a failure.
TEST(GraphStreamTest, RunsWhatCannotBeRecorded) {
  auto sum = torch::zeros({}, at::device(test_device()).dtype(at::kLong));
  {
    GraphStream stream(test_device());
    const auto step = [&] {
      if (sum.item<int64_t>() < 100) sum.add_(1);
    };
    step();
    for (int i = 0; i < 2; ++i) {
      const auto recorded = stream.record(step);
      recorded();
    }
  }
  EXPECT_EQ(sum.item<int64_t>(), 3);
  EXPECT_TRUE(torch::rand({4}, test_device()).lt(1).all().item<bool>());
}

}  // namespace
}  // namespace dalle
