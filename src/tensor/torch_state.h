#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/torch_pickle.h"

namespace dalle {

/// Memory that tensors are views of, stored outside the pickle under a key.
struct TorchStorage {
  std::string dtype;  ///< safetensors' name: "F32"
  int64_t size = 0;   ///< elements

  /// In bytes.
  int64_t byte_size() const;
  bool operator==(const TorchStorage&) const = default;
};

/// A tensor of a state dict, or a parameter or buffer of a module.
struct TorchTensor {
  std::string name;  ///< dotted
  std::string storage;
  int64_t offset = 0;  ///< elements from the start of the storage
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;

  bool operator==(const TorchTensor&) const = default;
};

struct TorchState {
  std::map<std::string, TorchStorage> storages;  ///< by key
  std::vector<TorchTensor> tensors;              ///< each within its storage
  std::map<std::string, double> numbers;  ///< attributes of modules that are floats, by dotted name
};

/// The state dict or the module that a pickle holds. All that is returned is consistent: names are
/// plain and unique, views do not exceed their storages, and all tensors together are no larger
/// than all storages, so a caller may allocate memory based on it.
/// @param source  names the pickle in messages
/// @throws dalle::Error naming the source, the tensor and what is wrong
TorchState read_torch_state(const Pickle& pickle, std::string_view source);

}  // namespace dalle
