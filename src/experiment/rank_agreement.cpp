#include "experiment/rank_agreement.h"

#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
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

/// All ranks write into the run folder.
void check_folder_is_shared(const RunPaths& run, ProcessGroup& group) {
  const std::string token = group.broadcast(fmt::format("{:08x}", std::random_device()()));
  const fs::path mark = run.root / (".seen-by-all-" + token);  // a new name: in no cache
  if (group.is_rank_zero()) write_file_atomically(mark, token);
  group.barrier();
  const std::vector<std::string> sees = group.all_gather_strings(fs::exists(mark) ? "seen" : "");
  if (group.is_rank_zero()) fs::remove(mark);
  for (size_t rank = 0; rank < sees.size(); ++rank)
    if (sees[rank].empty())
      throw Error(
          "{}: rank {} cannot see files that rank 0 writes there; the run folder must be on a file "
          "system that all ranks share",
          run.root.string(), rank);
}

/// Clears the keys that each rank may have its own of.
template <ConfigStruct T>
void clear_what_may_differ(T& config) {
  T::fields(config, [](std::string_view, auto& member, const Field& field) {
    using Member = std::remove_cvref_t<decltype(member)>;
    if constexpr (ConfigStruct<Member>) clear_what_may_differ(member);
    if constexpr (detail::kIsA<Member, std::optional>)
      if constexpr (ConfigStruct<typename Member::value_type>)
        if (member) clear_what_may_differ(*member);
    if (field.may_differ_between_ranks) member = Member();
  });
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
  ExperimentConfig shared = config;
  clear_what_may_differ(shared);
  check_agreement(group, "config", dump_config(shared));
  check_agreement(group, "data set", data.fingerprint());
}

}  // namespace dalle
