#pragma once

#include <exception>
#include <string>

namespace dalle {

/// What an exception says, without the backtrace that LibTorch's errors carry.
std::string error_text(const std::exception& error);

/// Whether an exception says that memory ran out, on a GPU or on the CPU. LibTorch's allocator for
/// GPUs throws a c10::OutOfMemoryError; the one for the CPU, the CUDA runtime and cuBLAS are
/// recognized by the text of a c10::Error.
bool is_out_of_memory(const std::exception& error);

}  // namespace dalle
