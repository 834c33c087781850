#include "staging_folder.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/files.h"

namespace dalle {

namespace fs = std::filesystem;

StagingFolder::StagingFolder(const fs::path& next_to) {
  make_directories(fs::absolute(next_to).parent_path());
  std::string name = next_to.string() + ".part-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr)
    throw Error("{}: cannot create: {}", name, std::strerror(errno));
  path_ = name;
}

StagingFolder::~StagingFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void move_into_place(const fs::path& folder, const fs::path& out) {
  std::error_code error;
  fs::rename(folder, out, error);
  if (error)
    throw Error("--out {}: cannot rename {} to it: {}", out.string(), folder.string(),
                error.message());
  flush_to_disk(fs::absolute(out).parent_path());
}

fs::path checked_out(const fs::path& out) {
  const fs::path folder = without_trailing_slash(out);
  if (fs::exists(folder)) throw Error("--out {}: exists, expected a new folder", folder.string());
  return folder;
}

void write_new_checkpoint(const fs::path& out, const CheckpointContent& content) {
  const StagingFolder staging(out);
  CheckpointStore(staging.path(), /*keep_last=*/1).save(content);
  move_into_place(checkpoints_in(staging.path()).front(), out);
}

}  // namespace dalle
