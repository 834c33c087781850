#pragma once

#include <exception>

namespace dalle {

/// Whether an exception says that memory ran out, on a GPU or on the CPU. LibTorch's allocator for
/// GPUs throws a c10::OutOfMemoryError, the one for the CPU a plain c10::Error.
bool is_out_of_memory(const std::exception& error);

}  // namespace dalle
