#pragma once

#include <cstddef>
#include <string_view>

namespace dalle {

/// As many bytes of a file's beginning as file_kind() looks at.
inline constexpr size_t kFileKindBytes = 512;

/// What a file that cannot be read seems to be instead, as the middle of an error message: "empty",
/// "an HTML page", "a Git LFS pointer (run git lfs pull to fetch the file)", "gzip-compressed
/// (gunzip it first)". Empty if its beginning tells nothing.
///
/// @param head  the first kFileKindBytes bytes, or all if there are fewer
std::string_view file_kind(std::string_view head);

}  // namespace dalle
