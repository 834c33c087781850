#include "train/run_folder.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/files.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Without a slash at the end, so that a suffix can be appended.
fs::path plain(const fs::path& path) {
  return without_trailing_slash(path.lexically_normal());
}

void check_is_folder(const fs::path& path) {
  std::error_code ignored;  // what cannot be looked at cannot be written either: reported below
  if (fs::is_symlink(path, ignored) && !fs::exists(path, ignored))
    throw Error(
        "{}: a symbolic link to {}, which does not exist; create that folder, mount its disk, or "
        "remove the link",
        path.string(), fs::read_symlink(path, ignored).string());
  if (fs::exists(path, ignored) && !fs::is_directory(path, ignored))
    throw Error("{}: a file is in the way of the run folder; move it or choose another --run-dir",
                path.string());
}

void check_is_writable(const fs::path& path) {
  if (::access(path.c_str(), W_OK | X_OK) != 0)
    throw Error(
        "{}: cannot write into the run folder: {}; give write access or choose another "
        "--run-dir",
        path.string(), std::strerror(errno));
}

/// The lock of the folder, which is created if needed and can be written.
fs::path prepared_lock(const RunPaths& run) {
  check_is_folder(run.root);
  make_directories(run.root);
  check_is_writable(run.root);
  return run.lock();
}

}  // namespace

RunFolder::RunFolder(const fs::path& path) : RunPaths(plain(path)), lock_(prepared_lock(*this)) {
  make_directories(events());
  make_directories(samples());
}

std::optional<fs::path> move_run_aside(const fs::path& path) {
  check_is_folder(plain(path));
  if (!fs::exists(path)) return std::nullopt;
  // What a symbolic link names is renamed, on its own disk, and the link keeps naming the run.
  const bool is_link = fs::is_symlink(plain(path));
  const RunPaths run{is_link ? fs::canonical(path) : plain(path)};
  if (!fs::exists(run.lock()) && !fs::exists(run.config()) && !fs::is_empty(run.root))
    throw Error("{}: not a run's folder (no {}); move it yourself if that is what you want",
                run.root.string(), run.config().filename().string());
  check_is_writable(run.root);
  const FileLock lock(run.lock());
  fs::path aside;
  for (int number = 1; aside.empty() || fs::exists(aside); ++number)
    aside = run.root.string() + ".old-" + std::to_string(number);
  std::error_code error;
  fs::rename(run.root, aside, error);
  if (error)
    throw Error("{}: cannot rename to {}: {}", run.root.string(), aside.string(), error.message());
  if (is_link) make_directories(run.root);
  return aside;
}

}  // namespace dalle
