#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dalle {

/// A regular file inside a tar archive and where its bytes are.
struct TarMember {
  std::string name;
  uint64_t offset = 0;  ///< of its first byte in the archive
  uint64_t size = 0;
  bool is_sparse = false;  ///< then its bytes are not in one piece

  bool operator==(const TarMember&) const = default;
};

struct TarListing {
  std::vector<TarMember> members;  ///< in the archive's order
  std::string damage;              ///< what is wrong after the last of them; empty: nothing
};

/// Reads the headers of an uncompressed tar archive (ustar, GNU or pax), or of several that were
/// written one after the other into one file.
///
/// An archive that is truncated or corrupt keeps the members in front of the damage: those whose
/// bytes are all there. A file that is no tar archive has no members, and the damage says what it
/// is.
///
/// @throws dalle::Error naming the path if it cannot be read
TarListing list_tar(const std::filesystem::path& path);

}  // namespace dalle
