#pragma once

#include <array>
#include <filesystem>
#include <string_view>
#include <utility>

#include "core/fields.h"
#include "train/run_folder.h"

namespace dalle {

/// The stages of an experiment, in the order in which they run.
enum class Stage { kTokenizer, kDvae, kDalle };

constexpr auto enum_names(Stage) {
  return std::array{std::pair{Stage::kTokenizer, std::string_view("tokenizer")},
                    std::pair{Stage::kDvae, std::string_view("dvae")},
                    std::pair{Stage::kDalle, std::string_view("dalle")}};
}

/// Whether the run folder holds anything of the stage.
inline bool has_started(const RunPaths& run, Stage stage) {
  return std::filesystem::exists(stage == Stage::kTokenizer ? run.tokenizer()
                                                            : run.checkpoints(to_string(stage)));
}

}  // namespace dalle
