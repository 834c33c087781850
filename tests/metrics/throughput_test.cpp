#include "metrics/throughput.h"

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(Throughput, ReportsMeansSinceTheLastReport) {
  Throughput throughput(/*flops_per_sample=*/1e9, /*peak_flops=*/1e11);
  throughput.add(
      {.samples = 16, .tokens = 900, .step_s = 0.5, .data_wait_s = 0.1, .rank_wait_s = 0.2});
  throughput.add(
      {.samples = 16, .tokens = 1100, .step_s = 1.5, .data_wait_s = 0.1, .rank_wait_s = 0.4});
  const auto report = throughput.report();
  EXPECT_DOUBLE_EQ(report.step_ms, 1000);
  EXPECT_DOUBLE_EQ(report.compute_ms, 700);
  EXPECT_DOUBLE_EQ(report.samples_per_s, 16);
  EXPECT_DOUBLE_EQ(report.tokens_per_s, 1000);
  EXPECT_DOUBLE_EQ(report.flops_per_s, 1.6e10);
  EXPECT_DOUBLE_EQ(report.matmul_utilization, 0.16);
  EXPECT_DOUBLE_EQ(report.data_wait_fraction, 0.1);
  EXPECT_DOUBLE_EQ(throughput.report().samples_per_s, 0);
}

TEST(Throughput, MeasuresARateThatAMachineCanHave) {
  const double rate = measure_matmul_flops(c10::kCPU, Precision::kFloat32);
  EXPECT_GT(rate, 1e8);
  EXPECT_LT(rate, 1e15);
}

}  // namespace
}  // namespace dalle
