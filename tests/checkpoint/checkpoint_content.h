#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <torch/types.h>

#include "checkpoint/checkpoint.h"

namespace dalle {

inline void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// In place: rewriting whole files thousands of times would wait for the disk.
inline void flip_bit(const std::filesystem::path& path, size_t bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(bit / 8));
  const char byte = static_cast<char>(file.get() ^ (1 << (bit % 8)));
  file.seekp(static_cast<std::streamoff>(bit / 8));
  file.put(byte);
}

/// A checkpoint whose content is a function of its step (and of `variant`).
inline CheckpointContent content_of(int64_t step, int variant = 0) {
  const auto value = static_cast<double>(step * 10 + variant);
  return {.step = step,
          .tensors = {{"weights", {{"b", torch::full({3, 2}, value)}, {"a", torch::tensor(value)}}},
                      {"optimizer", {{"moment", torch::full({4}, -value, torch::kDouble)}}}},
          .files = {{"config.yaml", fmt::format("seed: {}\n", step * 10 + variant)},
                    {"tokenizer.model", std::string("\0\xff\n", 3)}}};
}

inline bool same(const CheckpointContent& a, const CheckpointContent& b) {
  if (a.step != b.step || a.files != b.files || a.tensors.size() != b.tensors.size()) return false;
  for (const auto& [name, tensors] : a.tensors)
    if (!b.tensors.contains(name) ||
        safetensors_bytes(tensors) != safetensors_bytes(b.tensors.at(name)))
      return false;
  return true;
}

inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

}  // namespace dalle
