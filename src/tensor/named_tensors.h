#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include "core/files.h"

namespace torch::nn {
class Module;
}

namespace dalle {

/// Tensors with their names, in the order of the file.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The type that the safetensors format calls `dtype`, one of safetensors_element_size().
at::ScalarType type_of_dtype(std::string_view dtype);

struct SafetensorsFile {
  NamedTensors tensors;                         ///< contiguous, on the CPU
  std::map<std::string, std::string> metadata;  ///< free text
};

/// Reads a safetensors file with tensors of the types BOOL, U8, I8, U16, I16, I32, I64, F16, BF16,
/// F32 and F64. Invalid sizes are rejected before memory is allocated.
/// @throws dalle::Error naming the file, the tensor and what is wrong
SafetensorsFile read_safetensors(const std::filesystem::path& path);

/// Writes a safetensors file and flushes it to disk. Tensors may be on any device; they are copied
/// to the CPU one at a time, and not at all if they are contiguous there. Equal arguments give
/// equal bytes. The write is not atomic: write to a temporary name and rename.
/// @return the file's size and SHA-256
/// @throws dalle::Error naming the file and the reason (disk full), or the tensor whose type the
///         format does not support
FileDigest write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                             const std::map<std::string, std::string>& metadata = {});

/// Returns the bytes that write_safetensors() would write.
std::string safetensors_bytes(const NamedTensors& tensors,
                              const std::map<std::string, std::string>& metadata = {});

/// Returns the module's parameters and then its buffers, with their dotted names, detached and on
/// the CPU. The tensors of a module on the CPU share its memory: clone what must outlive the next
/// update.
NamedTensors weights_of(const torch::nn::Module& module);

/// Copies `tensors` into the module's parameters and buffers, in place, so parameters that are
/// views of a flat buffer remain views. Converts between floating-point types, but not other types.
/// @param source  the origin of the tensors, for error messages
/// @throws dalle::Error naming up to 10 each of the missing, unexpected and mismatched tensors; the
///         module is then unchanged
void load_weights(torch::nn::Module& module, const NamedTensors& tensors,
                  const std::string& source);

/// The same for tensors that belong to no module.
void load_tensors(const NamedTensors& targets, const NamedTensors& tensors,
                  const std::string& source);

}  // namespace dalle
