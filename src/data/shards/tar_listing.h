#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dalle {

/// A regular file in a tar archive and the position of its content.
struct TarMember {
  std::string name;
  uint64_t offset = 0;  ///< of its content in the archive
  uint64_t size = 0;
  bool is_sparse = false;  ///< then its content is not contiguous

  bool operator==(const TarMember&) const = default;
};

struct TarListing {
  std::vector<TarMember> members;  ///< in the order of the archive
  std::string error;               ///< why the archive cannot be read further; empty if complete
};

/// Lists the members of an uncompressed tar archive (ustar, GNU or pax), or of several archives
/// that were concatenated into one file.
///
/// For a truncated or corrupt archive, the listing contains the complete members before the error.
/// For a file that is not a tar archive it is empty, and the error says what the file is.
///
/// @throws dalle::Error naming the path if it cannot be read
TarListing list_tar(const std::filesystem::path& path);

}  // namespace dalle
