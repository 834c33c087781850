#pragma once

#include <cstddef>
#include <string_view>

namespace dalle {

/// The number of bytes at the beginning of a file that file_kind() examines.
inline constexpr size_t kFileKindBytes = 512;

/// Guesses what a file is that does not have the expected format, for error messages: "empty", "an
/// HTML page", "a Git LFS pointer (run git lfs pull to fetch the file)", "gzip-compressed (gunzip
/// it first)". Empty if unknown.
///
/// @param head  the first kFileKindBytes bytes, or the entire file if it is shorter
std::string_view file_kind(std::string_view head);

}  // namespace dalle
