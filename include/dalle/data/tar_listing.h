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

  bool operator==(const TarMember&) const = default;
};

struct TarListing {
  std::vector<TarMember> members;  ///< in the archive's order
  std::string damage;              ///< what is wrong behind the last of them; empty: nothing
};

/// Reads the headers of an uncompressed tar archive (ustar, GNU or pax).
///
/// An archive that is cut short or damaged keeps the members in front of the damage: those whose
/// bytes are all there.
///
/// @throws dalle::Error naming the path if it cannot be read, is no tar archive, or holds a sparse
///         member, whose bytes are not in one piece
TarListing list_tar(const std::filesystem::path& path);

}  // namespace dalle
