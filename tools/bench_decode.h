#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dalle {

struct BenchDecodeArguments {
  std::string model;                              ///< a run or checkpoint folder
  std::string config;                             ///< the YAML file to use without `model`
  std::vector<std::string> overrides;             ///< of the config
  std::vector<int64_t> images = {1, 16};          ///< generated at once
  std::vector<int64_t> windows = {1, 8, 16, 32};  ///< of the CPU; 1: sequential decoding
  int64_t repeat = 3;
  std::string device = "cpu";  ///< see find_device()
  std::string json;            ///< also write the numbers to this file
};

/// Measures how fast a device generates image tokens, on the CPU with sequential, parallel and
/// automatic decoding in turn, and prints a table.
/// @return  the exit status
/// @throws dalle::Error if the modes generate different codes
int bench_decode(const BenchDecodeArguments& arguments);

}  // namespace dalle
