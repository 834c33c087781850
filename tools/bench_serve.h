#pragma once

#include <cstdint>
#include <string>

namespace dalle {

struct BenchServeArguments {
  std::string model;     ///< a run or checkpoint folder
  int64_t clients = 32;  ///< each waits for its image before it asks for the next one
  int64_t images = 8;    ///< images per client
  int64_t repeat = 3;
  std::string json;  ///< also write the numbers to this file
};

/// Measures the engine of dalle-serve, without HTTP, against one offline batch of the same images,
/// and when the first preview of an image arrives, and prints a table.
/// @return  the exit status
/// @throws dalle::Error if the images differ
int bench_serve(const BenchServeArguments& arguments);

}  // namespace dalle
