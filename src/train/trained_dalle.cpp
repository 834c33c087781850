#include "dalle/train/trained_dalle.h"

#include <optional>

#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/core/machine.h"
#include "dalle/data/batch.h"
#include "dalle/model/model_io.h"
#include "dalle/train/checkpoint.h"
#include "dalle/train/checkpoint_files.h"
#include "dalle/train/run_folder.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// The checkpoint that a training's file `latest` or `best` names; other paths as they are.
fs::path followed(const fs::path& path) {
  const bool points = path.filename() == "latest" || path.filename() == "best";
  if (!points || !fs::is_regular_file(path)) return path;
  std::string name = read_file(path);
  while (name.ends_with('\n')) name.pop_back();
  return path.parent_path() / name;
}

/// What drawing needs of the checkpoint at `path`, or of the newest one of the run at `path` that
/// verifies.
CheckpointContent read_model(const fs::path& given) {
  const fs::path path = followed(given);
  const std::set<std::string> parts = {kAverageTensors, kDvaeTensors, kConfigFile, kTokenizerFile};
  if (!fs::exists(path)) throw Error("{}: no such model", path.string());
  if (!fs::is_directory(path))
    throw Error("{}: expected a run folder or a checkpoint folder, found a file", path.string());
  if (fs::exists(path / "manifest.json")) return read_checkpoint(path, parts);
  if (auto newest = read_newest_checkpoint(RunPaths(path).checkpoints("dalle"), parts))
    return std::move(*newest);
  throw Error("{}: holds no DALL-E checkpoint; train the stage dalle first", path.string());
}

/// The policy of the training, but float32 where bfloat16 is emulated: the weights are float32 in
/// the checkpoint, and a model that was trained on a GPU is to draw on a laptop, too.
Precision sampling_precision(Precision trained, c10::Device device) {
  const bool emulated = device.is_cpu() && !this_processor().multiplies_bfloat16;
  return emulated ? Precision::kFloat32 : trained;
}

}  // namespace

TrainedDalle load_trained_dalle(const fs::path& path, c10::Device device) {
  const CheckpointContent content = read_model(path);
  const fs::path& checkpoint = content.path;
  const auto config = load_config_text<ExperimentConfig>(content.files.at(kConfigFile),
                                                         (checkpoint / kConfigFile).string());
  Tokenizer tokenizer(content.files.at(kTokenizerFile));

  const Precision precision = sampling_precision(config.dalle.train.precision, device);
  DiscreteVae vae(config.dvae.model, precision);
  load_weights(*vae, content.tensors.at(kDvaeTensors), (checkpoint / "dvae.safetensors").string());
  DalleModel model(config.dalle.model, config.layout(), tokenizer.vocab_size(),
                   config.dvae.model.vocab_size, precision);
  load_weights(*model, content.tensors.at(kAverageTensors),
               (checkpoint / "average.safetensors").string());
  vae->to(device);
  model->to(device);
  model->eval();
  return {.checkpoint = checkpoint,
          .hash = sha256_of_file(checkpoint / "manifest.json"),
          .step = content.step,
          .config = config,
          .tokenizer = std::move(tokenizer),
          .vae = vae,
          .model = model};
}

std::vector<Picture> draw_pictures(const TrainedDalle& dalle, const std::string& caption,
                                   const SamplingConfig& sampling, const DrawOptions& options,
                                   const DrawProgress& progress) {
  const std::vector<int64_t> tokens = dalle.tokenizer.encode(caption);
  const int64_t longest = dalle.config.layout().max_caption_tokens();
  if (tokens.size() > static_cast<size_t>(longest))
    log_warning("the caption has {} tokens, of which the model reads the first {}", tokens.size(),
                longest);
  return draw_pictures(dalle.model, dalle.vae, pad_caption(tokens, longest), sampling, options,
                       progress);
}

fs::path newest_finished_run(const fs::path& runs) {
  std::optional<fs::path> newest;
  std::string passed_over;
  std::error_code missing;  // no folder of runs: none is found, and said
  for (const auto& entry : fs::directory_iterator(runs, missing)) {
    const std::vector<fs::path> checkpoints =
        checkpoints_in(RunPaths(entry.path()).checkpoints("dalle"));
    if (checkpoints.empty()) continue;
    try {
      const fs::path& last = checkpoints.front();
      const CheckpointContent content = read_checkpoint(last, {kConfigFile});
      const auto config = load_config_text<ExperimentConfig>(content.files.at(kConfigFile),
                                                             (last / kConfigFile).string());
      if (content.step < config.dalle.train.steps)
        passed_over += fmt::format("; {} is at step {} of {}", entry.path().string(), content.step,
                                   config.dalle.train.steps);
      else if (!newest || fs::last_write_time(last) > fs::last_write_time(*newest))
        newest = last;
    } catch (const Error& error) {  // damaged, or of another version: the others may be good
      log_warning("passing over {}: {}", entry.path().string(), error.what());
      passed_over += fmt::format("; {} cannot be read", entry.path().string());
    }
  }
  if (!newest)
    throw Error("no finished training under {}: give --model, or train first with dalle-train{}",
                runs.string(), passed_over);
  return newest->parent_path().parent_path().parent_path();
}

}  // namespace dalle
