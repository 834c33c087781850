#include "experiment/trained/trained_dalle.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/log.h"
#include "data/batch.h"
#include "experiment/config/model_files.h"
#include "metrics/metric_log.h"
#include "tensor/named_tensors.h"
#include "train/run_folder.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// These parts of the checkpoint at `path`, or of the newest valid one in the run, in its folder of
/// checkpoints or in the folder of the stage at `path`.
CheckpointContent read_model(const fs::path& given, const std::set<std::string>& parts) {
  const fs::path path = existing_folder(given, "model");
  const bool is_single = is_checkpoint(path);
  const std::vector<fs::path> checkpoints = is_single ? std::vector{path} : checkpoints_in(path);
  const auto stage = checkpoints.empty() ? std::nullopt : stage_of(checkpoints.front());
  if (stage && *stage != Stage::kDalle)
    throw Error(
        "{}: found {} of the {} stage, which cannot {}; expected a run folder or a checkpoint of "
        "the dalle stage",
        path.string(), is_single ? "a checkpoint" : "checkpoints", to_string(*stage),
        *stage == Stage::kDvae ? "read captions" : "generate images");
  if (is_single) return read_checkpoint(path, parts);
  for (const fs::path& folder : folders_of_stage(path, Stage::kDalle))
    if (auto newest = read_newest_checkpoint(folder, parts)) return std::move(*newest);
  throw Error("{}: holds no DALL-E checkpoint; train the dalle stage first", path.string());
}

/// A run whose DALL-E is finished.
struct FinishedRun {
  fs::path folder;
  std::optional<double> finished;    ///< the time that the run recorded; older builds recorded none
  fs::file_time_type last_modified;  ///< of its last checkpoint
};

/// Copying a run, or touching it, does not make it newer: modification times decide only between
/// runs that recorded no time, and those are older than any that did.
bool finished_later(const FinishedRun& run, const FinishedRun& other) {
  if (run.finished || other.finished) return run.finished > other.finished;
  return run.last_modified > other.last_modified;
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code missing;  // no such folder: no entries
  for (const auto& entry : fs::directory_iterator(folder, missing)) entries.push_back(entry.path());
  std::ranges::sort(entries);
  return entries;
}

}  // namespace

TrainedDalle load_trained_dalle(const fs::path& path, c10::Device device,
                                std::optional<Precision> precision) {
  const CheckpointContent content =
      read_model(path, {kEmaTensors, kDvaeTensors, kConfigFile, kTokenizerFile});
  const fs::path& checkpoint = content.path;
  const ExperimentConfig config = config_of(content);
  Tokenizer tokenizer(content.files.at(kTokenizerFile));

  if (!precision) precision = sampling_precision(config.dalle.train.precision, device);
  DiscreteVae vae(config.dvae.model, *precision);
  load_weights(*vae, content.tensors.at(kDvaeTensors),
               tensors_file(checkpoint, kDvaeTensors).string());
  DalleModel model(config.dalle.model, config.layout(), tokenizer.vocab_size(),
                   config.dvae.model.vocab_size, *precision);
  load_weights(*model, content.tensors.at(kEmaTensors),
               tensors_file(checkpoint, kEmaTensors).string());
  vae->to(device);
  model->to(device);
  model->eval();
  return {.checkpoint = checkpoint,
          .hash = manifest_hash(checkpoint),
          .step = content.step,
          .config = config,
          .tokenizer = std::move(tokenizer),
          .vae = vae,
          .model = model};
}

ExperimentConfig config_of_trained_dalle(const fs::path& path) {
  return config_of(read_model(path, {kConfigFile}));
}

at::Tensor caption_tokens(const TrainedDalle& dalle, const std::string& caption,
                          LongCaptions long_captions) {
  const std::vector<int64_t> tokens = dalle.tokenizer.encode(caption);
  if (tokens.empty()) throw Error("caption {:?}: empty, expected words", caption);
  const int64_t longest = dalle.config.layout().max_caption_tokens();
  if (long_captions == LongCaptions::kWarn && tokens.size() > static_cast<size_t>(longest))
    log_warning("caption {:?}: has {} tokens; the model reads only the first {}", caption,
                tokens.size(), longest);
  return pad_caption(tokens, longest);
}

fs::path newest_finished_run(const fs::path& runs) {
  std::vector<FinishedRun> finished;
  std::string passed_over;
  for (const fs::path& folder : sorted_entries(runs)) {
    const std::vector<fs::path> checkpoints = checkpoints_in(RunPaths(folder).checkpoints("dalle"));
    if (checkpoints.empty()) continue;
    try {
      const fs::path& last = checkpoints.front();
      const CheckpointContent content = read_checkpoint(last, {kConfigFile});
      const int64_t steps = config_of(content).dalle.train.steps;
      if (content.step < steps)
        passed_over +=
            fmt::format("; {} is at step {} of {}", folder.string(), content.step, steps);
      else
        finished.push_back({.folder = folder,
                            .finished = last_written(RunPaths(folder).metrics(), "dalle"),
                            .last_modified = fs::last_write_time(last)});
    } catch (const Error& error) {  // corrupt, or of a different version; the others may be valid
      log_warning("skipping run {}: {}", folder.string(), error.what());
      passed_over += fmt::format("; {} cannot be read", folder.string());
    }
  }
  if (finished.empty())
    throw Error("no finished run under {}: give --model, or train a model with dalle-train first{}",
                runs.string(), passed_over);
  // Equal ones stay in the order of their names.
  std::ranges::stable_sort(finished, finished_later);
  const FinishedRun& last = finished.front();
  for (const FinishedRun& other : std::span(finished).subspan(1))
    if (!finished_later(last, other))
      log_info("{} and {} finished at the same time, so one may be a copy; using {}",
               last.folder.string(), other.folder.string(), last.folder.string());
  return last.folder;
}

}  // namespace dalle
