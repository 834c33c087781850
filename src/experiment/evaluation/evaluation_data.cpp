#include "experiment/evaluation/evaluation_data.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "experiment/stages/experiment_data.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxGeneratedUnlessLimited = 1000;

/// The valid samples at positions [begin, end).
/// @param invalid  gets the positions of the others
std::optional<Batch> batch_of(const SampleSource& source, int64_t begin, int64_t end,
                              std::vector<int64_t>& invalid) {
  std::vector<Sample> samples;
  for (int64_t i = begin; i < end; ++i) {
    if (std::optional<Sample> sample = source.unreplaced(i))
      samples.push_back(std::move(*sample));
    else
      invalid.push_back(i);
  }
  return samples.empty() ? std::nullopt : std::optional(stack(samples));
}

}  // namespace

EvaluationData::EvaluationData(const EvaluatedModel& model, int64_t limit)
    : EvaluationData(model, limit,
                     open_datasets(model.config.data, static_cast<uint64_t>(model.config.seed))) {}

EvaluationData::EvaluationData(const EvaluatedModel& model, int64_t limit,
                               std::unique_ptr<Dataset> validation)
    : EvaluationData(model, limit,
                     DatasetPair{.train = nullptr, .validation = std::move(validation)}) {}

EvaluationData::EvaluationData(const EvaluatedModel& model, int64_t limit, DatasetPair datasets)
    : datasets_(std::move(datasets)) {
  const Dataset& validation = *datasets_.validation;
  if (validation.size() == 0)
    throw Error("data: the validation set is empty, expected at least one image");
  size_ = limit > 0 ? std::min(limit, validation.size()) : validation.size();
  const TrainConfig& train = model.dalle ? static_cast<const TrainConfig&>(model.config.dalle.train)
                                         : static_cast<const TrainConfig&>(model.config.dvae.train);
  batch_size_ = evaluation_batch_size(train);
  skipped_ = std::make_unique<SkippedSamples>(std::filesystem::path(),
                                              judged_with_validation(model.config.data, datasets_),
                                              model.config.data.max_invalid_fraction);
  SampleSourceOptions options = validation_options(model.config);
  options.with_caption = model.dalle.has_value();
  source_ = std::make_unique<SampleSource>(
      validation, model.dalle ? &model.dalle->tokenizer : nullptr, *skipped_, options);
  images_to_generate_ = limit > 0 ? size_ : std::min(size_, kMaxGeneratedUnlessLimited);
  if (datasets_.train == nullptr) return;
  skipped_training_ = std::make_unique<SkippedSamples>(
      std::filesystem::path(), datasets_.train->size(), model.config.data.max_invalid_fraction);
  options.with_caption = false;
  options.shuffle = true;
  training_source_ = std::make_unique<SampleSource>(*datasets_.train, /*tokenizer=*/nullptr,
                                                    *skipped_training_, options);
}

bool EvaluationData::captions_differ() const {
  std::optional<std::string> first;
  for (int64_t i = 0; i < std::min(size_, kMaxRankedImages); ++i)
    if (const std::optional<Sample> sample = source_->unreplaced(i)) {
      if (first && sample->text != *first) return true;
      first = sample->text;
    }
  return false;
}

std::optional<Batch> EvaluationData::batch(int64_t begin, int64_t end, DataPart part) const {
  std::vector<int64_t> invalid;
  return batch_of(source_of(part), begin, end, invalid);
}

std::string EvaluationData::training_key(int64_t position) const {
  return datasets_.train->key(training_source_->order().index(position));
}

std::vector<ordered_json> EvaluationData::records(ChunkedWork& work, const SuitePhase& phase,
                                                  const FindRecord& find, int64_t limit,
                                                  DataPart part) const {
  const SampleSource& source = source_of(part);
  const int64_t count =
      std::min(limit, part == DataPart::kTraining ? datasets_.train->size() : size_);
  const ChunkedPhase chunked = phase.in_chunks(count, batch_size_);
  std::vector<ordered_json> chunks = work.records(chunked, [&](const Chunk& chunk) {
    std::vector<int64_t> invalid;
    const std::optional<Batch> valid = batch_of(source, chunk.begin, chunk.end, invalid);
    return ordered_json{{"invalid", invalid}, {"found", valid ? find(*valid) : ordered_json()}};
  });
  std::vector<ordered_json> found;
  for (ordered_json& chunk : chunks) {
    // Counts the invalid samples that another rank, or this command before it was stopped, has met:
    // whether there are too many must not depend on these.
    for (const ordered_json& position : chunk.at("invalid"))
      source.unreplaced(position.get<int64_t>());
    if (!chunk.at("found").is_null()) found.push_back(std::move(chunk.at("found")));
  }
  if (found.empty())
    throw Error("{}: none of the first {} samples can be used", phase.what(), count);
  return found;
}

}  // namespace dalle
