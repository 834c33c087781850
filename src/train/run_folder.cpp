#include "dalle/train/run_folder.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "dalle/core/error.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Without a slash at the end, so that a suffix can be put behind.
fs::path plain(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

void check_is_folder(const fs::path& path) {
  std::error_code ignored;  // what cannot be looked at cannot be written either: reported below
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

/// The lock of a folder that is there and can be written afterwards.
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
  const RunPaths run{plain(path)};
  check_is_folder(run.root);
  if (!fs::exists(run.root)) return std::nullopt;
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
  return aside;
}

}  // namespace dalle
