#include "new_checkpoint.h"

#include "core/error.h"
#include "staging_folder.h"

namespace dalle {
namespace fs = std::filesystem;

fs::path checked_out(const fs::path& out) {
  const fs::path folder = out.has_filename() ? out : out.parent_path();  // a/b/ is a/b
  if (fs::exists(folder)) throw Error("--out {}: exists, expected a new folder", folder.string());
  return folder;
}

void write_new_checkpoint(const fs::path& out, const CheckpointContent& content) {
  const StagingFolder staging(out);
  CheckpointStore(staging.path(), /*keep_last=*/1).save(content);
  move_into_place(checkpoints_in(staging.path()).front(), out);
}

}  // namespace dalle
