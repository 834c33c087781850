#pragma once

#include <cstdint>

#include <c10/core/Device.h>

#include "dalle/nn/precision.h"

namespace dalle {

/// The rate of a large matrix product on this machine in the precision that training computes in,
/// in FLOP/s; what utilisation is reported against. Takes about half a second.
double measure_matrix_rate(c10::Device device, Precision precision);

/// Where the time of the steps since the last report went.
class Throughput {
 public:
  /// @param flops_per_sample  useful FLOPs of forward and backward; recomputation does not count
  /// @param peak_flops        measure_matrix_rate()
  Throughput(double flops_per_sample, double peak_flops);

  /// A step's time, and how much of it was waiting for data and for other ranks.
  struct StepTime {
    double step_s = 0;
    double data_wait_s = 0;
    double rank_wait_s = 0;
  };

  void add_step(int64_t samples, const StepTime& time);

  struct Report {
    double step_ms = 0;  ///< mean time of a step
    double samples_per_s = 0;
    double flops_per_s = 0;
    double utilisation = 0;         ///< share of the measured matrix rate, in [0, 1]
    double own_ms = 0;              ///< mean time of a step, without waiting for other ranks
    double data_wait_fraction = 0;  ///< share of the time in which the trainer waited for data
  };

  /// The means since the last call.
  Report report();

 private:
  double flops_per_sample_;
  double peak_flops_;
  int64_t steps_ = 0;
  int64_t samples_ = 0;
  StepTime sum_;
};

}  // namespace dalle
