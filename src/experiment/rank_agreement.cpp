#include "experiment/rank_agreement.h"

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/build_info.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "dist/agreement.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// All ranks write checkpoints into the run folder.
void check_folder_is_shared(const RunPaths& run, ProcessGroup& group) {
  const std::string token = group.broadcast(fmt::format("{:08x}", std::random_device()()));
  const fs::path mark = run.root / (".seen-by-all-" + token);  // a new name: in no cache
  if (group.is_rank_zero()) write_file_atomically(mark, token);
  group.barrier();
  const std::vector<std::string> sees =
      group.all_gather_strings(fs::exists(mark) ? "it" : "nothing");
  if (group.is_rank_zero()) fs::remove(mark);
  for (size_t rank = 0; rank < sees.size(); ++rank)
    if (sees[rank] != "it")
      throw Error(
          "{}: rank {} cannot see files that rank 0 writes there; the run folder must be on a file "
          "system that all ranks share",
          run.root.string(), rank);
}

}  // namespace

void check_rank_agreement(ProcessGroup& group, const ExperimentConfig& config, const RunPaths& run,
                          const ExperimentData& data) {
  if (group.world_size() == 1) return;
  check_folder_is_shared(run, group);
  const BuildInfo build = build_info();
  check_agreement(
      group, "program",
      fmt::format("dalle {} {}, LibTorch {}", build.version, build.git_revision, build.libtorch));
  ExperimentConfig without_paths = config;
  without_paths.data.path.clear();
  without_paths.data.validation_path.clear();
  without_paths.data.index_cache.clear();
  without_paths.dvae.checkpoint.clear();
  without_paths.from.checkpoint.clear();
  without_paths.from.clip_checkpoint.clear();
  check_agreement(group, "config", dump_config(without_paths));
  check_agreement(group, "data set", data.identity());
}

}  // namespace dalle
