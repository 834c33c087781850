#include "new_checkpoint.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/files.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// A new folder next to another path; what is left in it is removed at the end.
class StagingFolder {
 public:
  explicit StagingFolder(const fs::path& next_to) {
    make_directories(fs::absolute(next_to).parent_path());
    std::string name = next_to.string() + ".part-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr)
      throw Error("{}: cannot create: {}", name, std::strerror(errno));
    path_ = name;
  }
  ~StagingFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

fs::path checked_out(const fs::path& out) {
  const fs::path folder = out.has_filename() ? out : out.parent_path();  // a/b/ is a/b
  if (fs::exists(folder)) throw Error("--out {}: exists, expected a new folder", folder.string());
  return folder;
}

void write_new_checkpoint(const fs::path& out, const CheckpointContent& content) {
  const StagingFolder staging(out);
  CheckpointStore(staging.path(), /*keep_last=*/1).save(content);
  fs::rename(checkpoints_in(staging.path()).front(), out);
  flush_to_disk(fs::absolute(out).parent_path());
}

}  // namespace dalle
