#pragma once

#include <cstdint>
#include <vector>

namespace dalle {

/// An RGB image in memory: 8 bits a channel, interleaved, rows from the top.
struct RgbImage {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> pixels;  ///< height * width * 3 bytes

  bool operator==(const RgbImage&) const = default;
};

}  // namespace dalle
