#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "tensor/torch_state.h"

namespace dalle {

/// The largest file that is read, and the largest number of entries of its zip archive.
constexpr int64_t kMaxTorchFileBytes = int64_t{16} << 30;
constexpr size_t kMaxTorchFileEntries = 65536;

/// What torch.save() wrote of a state dict or of a whole module.
struct TorchFile {
  TorchState state;
  std::map<std::string, std::string> data;  ///< the bytes of each storage, by key
};

/// Whether the file begins like one that read_torch_file() reads.
/// @throws dalle::Error if the file cannot be read
bool is_torch_file(const std::filesystem::path& path);

/// Reads a file in either container of torch.save(): the zip archive that it has written since
/// PyTorch 1.6, or the former sequence of pickles. As in read_torch_pickle(), nothing of the file
/// is executed. Compressed entries, which torch.save() does not write, are refused, so that the
/// file's size limits the memory that it takes.
/// @throws dalle::Error naming the file and what was refused
TorchFile read_torch_file(const std::filesystem::path& path);

}  // namespace dalle
