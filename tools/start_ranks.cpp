#include "start_ranks.h"

#include <sys/mman.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "dist/local_launcher.h"
#include "experiment/rank_setup.h"

namespace dalle {

std::optional<std::string> text_of_pipe(const std::string& path) {
  std::error_code ignored;  // reported when the file is read
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (!exists(status) || is_regular_file(status) || is_directory(status)) return std::nullopt;
  return read_file(path);
}

bool may_start_ranks(int64_t ranks, const RankInfo& launched) {
  if (launched.alone()) return true;
  if (launched.rank == 0)  // reports for all, which have the same arguments
    log_error(
        "--ranks {}: {} has already started {} ranks; omit --ranks, or have it start only one "
        "process",
        ranks, launched.launcher, launched.world_size);
  return false;
}

void check_devices_of_ranks(int64_t ranks, const std::string& device) {
  RankInfo local;
  local.local_world_size = ranks;
  device_of(local, device);
}

int start_ranks(int64_t ranks, const std::string& config, const std::optional<std::string>& piped,
                char** argv) {
  if (!piped) return launch_local_ranks(ranks, argv);
  const int descriptor = ::memfd_create("config.yaml", 0);  // the ranks inherit it
  const std::string path = fmt::format("/proc/self/fd/{}", descriptor);
  std::ofstream file(path);
  if (descriptor < 0 || !(file << *piped << std::flush))
    throw Error("--config {}: {} ranks cannot read the same pipe; use a file", config, ranks);
  std::vector<std::string> words;
  for (; *argv != nullptr; ++argv) {
    const bool is_value = !words.empty() && words.back() == "--config";
    words.emplace_back(is_value ? path : *argv);
    if (words.back() == "--config=" + config) words.back() = "--config=" + path;
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return launch_local_ranks(ranks, pointers.data());
}

}  // namespace dalle
