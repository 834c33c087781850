#include "dalle/train/trainer_state.h"

#include <cmath>
#include <limits>

#include "dalle/core/error.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no infinity: the loss of a plateau that saw none yet is null.
Json to_json_number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

double from_json_number(const Json& json) {
  return json.is_null() ? std::numeric_limits<double>::infinity() : json.get<double>();
}

Json means_to_json(const RunningMeans& means) {
  Json json = Json::array();
  for (const auto& entry : means.entries()) json.push_back({entry.name, entry.sum, entry.count});
  return json;
}

RunningMeans means_from_json(const Json& json) {
  std::vector<RunningMeans::Entry> entries;
  for (const Json& entry : json)
    entries.push_back(
        {entry.at(0).get<std::string>(), entry.at(1).get<double>(), entry.at(2).get<int64_t>()});
  RunningMeans means;
  means.restore(std::move(entries));
  return means;
}

}  // namespace

std::string TrainerState::to_json() const {
  const Json json = {
      {"step", step},
      {"updates", updates},
      {"skipped_in_row", skipped_in_row},
      {"plateau",
       {{"best_loss", to_json_number(plateau.best_loss)},
        {"stale", plateau.stale},
        {"cuts", plateau.cuts}}},
      {"since_log", means_to_json(since_log)},
      {"since_evaluation", means_to_json(since_evaluation)},
      {"score", score ? to_json_number(*score) : Json(nullptr)},
      {"best_score", to_json_number(best_score)},
      {"lines", lines},
      {"evaluation_due", evaluation_due},
      {"pictures_due", pictures_due},
      {"checkpoint_due", checkpoint_due},
  };
  return json.dump(2) + "\n";
}

TrainerState TrainerState::from_json(const std::string& text, const std::string& source) {
  try {
    const Json json = Json::parse(text);
    TrainerState state;
    state.step = json.at("step").get<int64_t>();
    state.updates = json.at("updates").get<int64_t>();
    state.skipped_in_row = json.at("skipped_in_row").get<int64_t>();
    const Json& plateau = json.at("plateau");
    state.plateau = {.best_loss = from_json_number(plateau.at("best_loss")),
                     .stale = plateau.at("stale").get<int64_t>(),
                     .cuts = plateau.at("cuts").get<int64_t>()};
    state.since_log = means_from_json(json.at("since_log"));
    state.since_evaluation = means_from_json(json.at("since_evaluation"));
    // Older checkpoints lack these: all lines of their step belong to them.
    if (const Json score = json.value("score", Json()); !score.is_null())
      state.score = score.get<double>();
    state.best_score = from_json_number(json.value("best_score", Json()));
    state.lines = json.value("lines", std::numeric_limits<int64_t>::max());
    state.evaluation_due = json.value("evaluation_due", false);
    state.pictures_due = json.value("pictures_due", false);
    state.checkpoint_due = json.value("checkpoint_due", false);
    return state;
  } catch (const Json::exception& error) {
    throw Error("{}: no trainer state: {}", source, error.what());
  }
}

}  // namespace dalle
