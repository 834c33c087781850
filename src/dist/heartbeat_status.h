#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/fields.h"

namespace dalle {

/// What a rank is doing. Loading and computing belong to a training step and are limited by the
/// timeout; the other phases may take as long as they need.
enum class Phase { kPreparing, kLoading, kComputing, kEvaluating, kSampling, kSaving };

/// For messages.
constexpr auto enum_names(Phase) {
  return names_in_order<Phase>("preparing", "loading data", "computing", "evaluating",
                               "generating samples", "saving");
}

bool is_limited(Phase phase);

/// What occupies a rank; the values are those in the store.
enum class Activity : char {
  kUnknown = 0,
  kWaiting = 'w',   ///< in a collective
  kStepping = 's',  ///< in a limited phase
  kWorking = 'o',   ///< in a phase without a time limit
};

/// What a rank publishes about itself.
struct RankStatus {
  Activity activity = Activity::kUnknown;
  std::chrono::steady_clock::duration age{};  ///< since it last made progress
  std::string place;                          ///< "step 41, computing (all-reduce)"
};

/// The text that a rank writes to the store. The number of the heartbeat makes each text differ
/// from the one before.
std::string format_status(int64_t heartbeat, const RankStatus& status);

/// Parses such a text. Any other text becomes the place of a status without an activity, and an
/// empty one the place "startup".
RankStatus parse_status(const std::string& text);

/// "rank 0 at step 41, computing (all-reduce); ranks 1-3 at step 42, ..."
std::string name_places(const std::map<std::string, std::vector<int64_t>>& ranks_by_place);

}  // namespace dalle
