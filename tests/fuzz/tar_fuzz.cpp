#include "data/shards/tar_listing.h"
#include "fuzz/fuzz.h"

namespace dalle {

/// Members lie within the file.
void fuzz(std::string_view input) {
  TarListing listing;
  if (!accepts([&] { listing = list_tar(file_in_memory(input)); })) return;
  for (const TarMember& member : listing.members)
    DALLE_CHECK(member.offset <= input.size() && member.size <= input.size() - member.offset);
}

}  // namespace dalle
