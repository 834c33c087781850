#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "core/seeds.h"
#include "data/dataset.h"

namespace dalle {

inline constexpr int64_t kNoiseImageSide = 48;

/// An image of noise, in which no two crops are equal.
inline RgbImage noise_image(uint64_t seed, int64_t side = kNoiseImageSide) {
  SeedStream random(seed);
  RgbImage image{.width = side, .height = side, .pixels = {}};
  image.pixels.resize(static_cast<size_t>(3 * side * side));
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random.below(256));
  return image;
}

/// Images of noise with three captions each. Tests may replace or break some of them.
class NoiseDataset : public Dataset {
 public:
  explicit NoiseDataset(int64_t size) : size_(size) {}

  int64_t size() const override { return size_; }
  std::string key(int64_t index) const override { return "noise/" + std::to_string(index); }
  std::vector<std::string> captions(int64_t index) const override {
    if (const auto found = captions_of.find(index); found != captions_of.end())
      return found->second;
    const std::string name = "image " + std::to_string(index);
    return {name + " of noise", "some " + name, name};
  }
  RawSample get(int64_t index) const override {
    ++images_read;
    if (unreadable.contains(index)) throw Error("{}: truncated", key(index));
    if (failing.contains(index))
      throw std::filesystem::filesystem_error(key(index),
                                              std::make_error_code(std::errc::io_error));
    if (const auto found = bytes_of.find(index); found != bytes_of.end())
      return {.key = key(index), .image = found->second, .captions = captions(index)};
    const int64_t side = small.contains(index) ? kNoiseImageSide / 3 : kNoiseImageSide;
    return {.key = key(index),
            .image = noise_image(static_cast<uint64_t>(index), side),
            .captions = captions(index)};
  }

  std::set<int64_t> unreadable;
  std::set<int64_t> failing;
  std::set<int64_t> small;
  std::map<int64_t, std::string> bytes_of;
  std::map<int64_t, std::vector<std::string>> captions_of;
  mutable std::atomic<int64_t> images_read = 0;

 private:
  int64_t size_;
};

}  // namespace dalle
