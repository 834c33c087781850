#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dalle {

struct BenchTrainArguments {
  std::string config;                  ///< the experiment's YAML file
  std::vector<std::string> overrides;  ///< of the config
  std::string stage = "dalle";         ///< dvae, dalle or clip
  std::vector<int64_t> ranks = {1, 2};
  int64_t steps = 40;           ///< per run, of which the second half is measured
  std::string device = "auto";  ///< see find_device()
  std::string json;             ///< also write the numbers to this file
};

/// Trains for a few steps on each number of ranks, with the same batch per rank (weak scaling), and
/// prints a table.
/// @return  the exit status
/// @throws dalle::Error if a training fails
int bench_train(const BenchTrainArguments& arguments);

}  // namespace dalle
