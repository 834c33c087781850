#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/fields.h"
#include "train/run_folder.h"

namespace dalle {

/// The stages of an experiment, in the order in which they run. The seeds of initial weights depend
/// on the numbers.
enum class Stage { kTokenizer = 0, kDvae = 1, kDalle = 2, kClip = 3 };

constexpr auto enum_names(Stage) {
  return names_in_order<Stage>("tokenizer", "dvae", "dalle", "clip");
}

/// The stage with this name; none if the name is empty.
/// @throws dalle::Error for any other name
inline std::optional<Stage> find_stage(std::string_view name) {
  if (name.empty()) return std::nullopt;
  if (const std::optional<Stage> stage = find_enum<Stage>(name)) return stage;
  throw Error("stage {:?}: expected tokenizer, dvae, dalle or clip", name);
}

/// Whether the run folder holds anything of the stage.
inline bool has_started(const RunPaths& run, Stage stage) {
  return std::filesystem::exists(stage == Stage::kTokenizer ? run.tokenizer()
                                                            : run.checkpoints(to_string(stage)));
}

}  // namespace dalle
