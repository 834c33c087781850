#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/core/files.h"

namespace torch::nn {
class Module;
}

namespace dalle {

/// Tensors by name, in the order in which a file holds them.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// What a safetensors file holds.
struct SafetensorsFile {
  NamedTensors tensors;                         ///< contiguous, on the CPU
  std::map<std::string, std::string> metadata;  ///< free text
};

/// Reads a safetensors file; its types may be BOOL, U8, I8, U16, I16, I32, I64, F16, BF16, F32,
/// F64.
/// @throws dalle::Error naming the file, the tensor and what is wrong; a file can claim no more
/// memory than it has bytes
SafetensorsFile read_safetensors(const std::filesystem::path& path);

/// Writes a safetensors file and flushes it to the disk. Tensors are taken from any device one at a
/// time and never copied where they are contiguous on the CPU. Equal arguments give equal bytes.
/// The file is not written atomically: write to a place aside and rename.
/// @return the file's size and SHA-256
/// @throws dalle::Error naming the file and the reason (disk full), or the tensor whose type the
/// format lacks
FileDigest write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                             const std::map<std::string, std::string>& metadata = {});

/// The bytes that write_safetensors() would write.
std::string safetensors_bytes(const NamedTensors& tensors,
                              const std::map<std::string, std::string>& metadata = {});

/// The module's parameters, then its buffers, by their dotted names, detached and on the CPU. Those
/// of a module on the CPU share its memory: clone what must outlive the next update.
NamedTensors weights_of(const torch::nn::Module& module);

/// Copies `tensors` into the module's parameters and buffers. Done in place, so parameters that are
/// views of a flat buffer stay views. Floating-point types are converted into each other, no
/// others.
/// @param source  where the tensors are from, for the error message
/// @throws dalle::Error naming every missing, unexpected and misshapen tensor; the module is then
/// as before
void load_weights(torch::nn::Module& module, const NamedTensors& tensors,
                  const std::string& source);

}  // namespace dalle
