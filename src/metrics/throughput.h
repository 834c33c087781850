#pragma once

#include <cstdint>

#include <c10/core/Device.h>

#include "tensor/precision.h"

namespace dalle {

/// The rate of a large matrix product on this machine in the precision that training computes in,
/// in FLOP/s: what matmul_utilization is a share of. Takes about half a second.
double measure_matmul_flops(c10::Device device, Precision precision);

/// Where the time of the steps since the last report went.
class Throughput {
 public:
  /// @param flops_per_sample  useful FLOPs of forward and backward; recomputation does not count
  /// @param peak_flops        measure_matmul_flops()
  Throughput(double flops_per_sample, double peak_flops);

  struct Step {
    int64_t samples = 0;
    int64_t tokens = 0;  ///< that were predicted; 0 where the stage has no text
    double step_s = 0;
    double data_wait_s = 0;  ///< of it, waiting for the loader
    double rank_wait_s = 0;  ///< of it, waiting for other ranks
  };

  void add(const Step& step);

  struct Report {
    double step_ms = 0;  ///< mean time of a step
    double samples_per_s = 0;
    double tokens_per_s = 0;
    double flops_per_s = 0;
    double matmul_utilization = 0;  ///< share of the measured matmul rate, in [0, 1]
    double compute_ms = 0;          ///< mean time of a step, without waiting for other ranks
    double data_wait_fraction = 0;  ///< share of the time in which the trainer waited for data
  };

  /// The means since the last call.
  Report report();

 private:
  double flops_per_sample_;
  double peak_flops_;
  int64_t steps_ = 0;
  Step sum_;
};

}  // namespace dalle
