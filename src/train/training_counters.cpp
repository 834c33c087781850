#include "train/training_counters.h"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "metrics/running_means_json.h"

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

/// The means since the last log; "norm" was the gradient norm's name before version 0.2.
RunningMeans means_with_present_names(RunningMeans means) {
  std::vector<RunningMeans::Entry> entries = means.entries();
  for (RunningMeans::Entry& entry : entries)
    if (entry.name == "norm") entry.name = "grad_norm";
  means.restore(std::move(entries));
  return means;
}

}  // namespace

std::string TrainingCounters::to_json() const {
  const Json json = {
      {"step", step},
      {"updates", updates},
      {"skipped_in_row", skipped_in_row},
      {"plateau",
       {{"best_loss", to_json_number(plateau.best_loss)},
        {"bad_evals", plateau.bad_evals},
        {"reductions", plateau.reductions}}},
      {"since_log", since_log},
      {"since_evaluation", since_evaluation},
      {"score", score ? to_json_number(*score) : Json(nullptr)},
      {"best_score", to_json_number(best_score)},
      {"lines", lines_of_step},
      {"evaluation_due", evaluation_due},
      {"samples_due", samples_due},
      {"checkpoint_due", checkpoint_due},
  };
  return json.dump(2) + "\n";
}

TrainingCounters TrainingCounters::from_json(const std::string& text, const std::string& source) {
  try {
    const Json json = Json::parse(text);
    TrainingCounters counters;
    counters.step = json.at("step").get<int64_t>();
    counters.updates = json.at("updates").get<int64_t>();
    counters.skipped_in_row = json.at("skipped_in_row").get<int64_t>();
    const Json& plateau = json.at("plateau");
    counters.plateau = {
        .best_loss = from_json_number(plateau.at("best_loss")),
        .bad_evals = plateau.at(plateau.contains("stale") ? "stale" : "bad_evals").get<int64_t>(),
        .reductions = plateau.at(plateau.contains("cuts") ? "cuts" : "reductions").get<int64_t>()};
    counters.since_log = means_with_present_names(json.at("since_log").get<RunningMeans>());
    counters.since_evaluation = json.at("since_evaluation").get<RunningMeans>();
    // Older checkpoints lack these: all lines of their step belong to them.
    if (const Json score = json.value("score", Json()); !score.is_null())
      counters.score = score.get<double>();
    counters.best_score = from_json_number(json.value("best_score", Json()));
    counters.lines_of_step = json.value("lines", std::numeric_limits<int64_t>::max());
    counters.evaluation_due = json.value("evaluation_due", false);
    counters.samples_due = json.value("samples_due", json.value("pictures_due", false));
    counters.checkpoint_due = json.value("checkpoint_due", false);
    return counters;
  } catch (const Json::exception& error) {
    throw Error("{}: not the counters of a training run: {}", source, error.what());
  }
}

}  // namespace dalle
