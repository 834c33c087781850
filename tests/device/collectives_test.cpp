// Every collective through the backend that training on the device uses, with every type that it is
// used for. On one rank, this shows that the backend opens and accepts them; whether sums are
// correct, only several ranks can show: see tests/dist/.

#include <chrono>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "dist/process_group.h"
#include "error_of.h"
#include "ranks.h"
#include "test_device.h"

namespace dalle {
namespace {

class CollectivesTest : public testing::Test {
 protected:
  // Without a backend, every collective would return immediately.
  void TearDown() override { EXPECT_GT(group.waited_s(), 0); }

  static at::Tensor values(at::ScalarType type) {
    return torch::arange(1, 100, at::TensorOptions(test_device()).dtype(type));
  }

  using InPlace = std::function<void(const at::Tensor& tensor)>;
  using Into = std::function<void(const at::Tensor& to, const at::Tensor& from)>;

  /// Expects that a collective leaves the values of the only rank as they are.
  static void expect_in_place(const char* name, std::initializer_list<at::ScalarType> types,
                              const InPlace& collective) {
    for (const at::ScalarType type : types) {
      const at::Tensor tensor = values(type);
      EXPECT_EQ(error_of([&] { collective(tensor); }), "no error")
          << name << " of " << c10::toString(type);
      EXPECT_TRUE(torch::equal(tensor, values(type))) << name << " of " << c10::toString(type);
    }
  }

  /// Expects that a collective copies the values of the only rank.
  static void expect_copy(const char* name, std::initializer_list<at::ScalarType> types,
                          const Into& collective) {
    for (const at::ScalarType type : types) {
      const at::Tensor result = torch::zeros_like(values(type));
      EXPECT_EQ(error_of([&] { collective(result, values(type)); }), "no error")
          << name << " of " << c10::toString(type);
      EXPECT_TRUE(torch::equal(result, values(type))) << name << " of " << c10::toString(type);
    }
  }

  // At port 0, which stands for any that is free.
  ProcessGroup group{info_of(/*rank=*/0, /*world_size=*/1, /*port=*/0),
                     test_device(),
                     {.timeout = std::chrono::minutes(1)}};
};

TEST_F(CollectivesTest, SumEveryTypeThatTrainingSums) {
  // Asynchronously: the gradient's buckets, in distributed.reduce_dtype.
  expect_in_place("all_reduce_async", {torch::kFloat32, torch::kBFloat16},
                  [&](const at::Tensor& x) { group.all_reduce_async(x).wait(); });
  expect_copy("reduce_scatter_async", {torch::kFloat32, torch::kBFloat16},
              [&](const at::Tensor& to, const at::Tensor& from) {
                group.reduce_scatter_async(to, from).wait();
              });
  expect_in_place("all_reduce", {torch::kFloat32, torch::kFloat64, torch::kInt64},
                  [&](const at::Tensor& x) { group.all_reduce(x); });
}

TEST_F(CollectivesTest, CopyEveryTypeThatTrainingSends) {
  expect_in_place("broadcast", {torch::kFloat32, torch::kInt64, torch::kUInt8},
                  [&](const at::Tensor& x) { group.broadcast(x); });
  expect_copy("all_gather", {torch::kFloat32, torch::kFloat64, torch::kInt64, torch::kUInt8},
              [&](const at::Tensor& to, const at::Tensor& from) { group.all_gather(to, from); });
  expect_copy("all_to_all", {torch::kFloat32, torch::kFloat64},
              [&](const at::Tensor& to, const at::Tensor& from) { group.all_to_all(to, from); });
}

TEST_F(CollectivesTest, ExchangeStringsAndMeetAtABarrier) {
  EXPECT_EQ(group.broadcast("text"), "text");
  EXPECT_EQ(group.all_gather_strings("text"), std::vector<std::string>{"text"});
  EXPECT_EQ(error_of([&] { group.barrier(); }), "no error");
}

}  // namespace
}  // namespace dalle
