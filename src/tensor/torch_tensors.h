#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "tensor/named_tensors.h"

namespace dalle {

/// Tensors of a file that PyTorch or safetensors wrote.
struct ForeignTensors {
  NamedTensors tensors;                   ///< contiguous, on the CPU
  std::map<std::string, double> numbers;  ///< attributes of a module, see TorchState
};

/// Reads a file of torch.save(), as read_torch_file() does, or any other as safetensors.
/// @throws dalle::Error naming the file and what is wrong
ForeignTensors read_foreign_tensors(const std::filesystem::path& path);

}  // namespace dalle
