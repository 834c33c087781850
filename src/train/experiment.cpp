#include "dalle/train/experiment.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <system_error>
#include <vector>

#include <torch/types.h>

#include "dalle/core/build_info.h"
#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/core/machine.h"
#include "dalle/core/progress.h"
#include "dalle/data/code_cache.h"
#include "dalle/data/fingerprint.h"
#include "dalle/data/tokenizer.h"
#include "dalle/dist/agreement.h"
#include "dalle/model/model_io.h"
#include "dalle/train/checkpoint_files.h"
#include "dalle/train/dalle_task.h"
#include "dalle/train/dvae_task.h"
#include "dalle/train/experiment_data.h"
#include "dalle/train/on_stop.h"
#include "dalle/train/trainer_state.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Keys that change when a run reports, saves or ends, and how fast its data comes, but no number
/// of its training. Whether other paths hold other data is check_data_change()'s to find out.
constexpr std::string_view kHarmlessKeys[] = {"name",
                                              "sample",
                                              "data.path",
                                              "data.validation_path",
                                              "data.workers",
                                              "data.prefetch",
                                              "data.index_cache",
                                              "data.max_bad_fraction",
                                              "distributed.backend",
                                              "distributed.timeout_s",
                                              "distributed.bucket_mb",
                                              "distributed.shard_optimizer",
                                              "distributed.check_replicas_every",
                                              "dvae.train.steps",
                                              "dvae.train.save_every",
                                              "dvae.train.save_every_minutes",
                                              "dvae.train.keep_last",
                                              "dvae.train.keep_best",
                                              "dvae.train.max_skipped_steps",
                                              "dalle.train.steps",
                                              "dalle.train.save_every",
                                              "dalle.train.save_every_minutes",
                                              "dalle.train.keep_last",
                                              "dalle.train.keep_best",
                                              "dalle.train.max_skipped_steps",
                                              "dalle.train.sample_every",
                                              "dalle.cache_codes"};

bool begun(const RunPaths& run, Stage stage) {
  if (stage == Stage::kTokenizer) return fs::exists(run.tokenizer());
  return fs::exists(run.checkpoints(to_string(stage)));
}

bool any_begun(const RunPaths& run) {
  return std::ranges::any_of(enum_names(Stage{}),
                             [&](const auto& stage) { return begun(run, stage.first); });
}

/// Refuses to go on with other numbers than the run began with. Keys of stages not yet begun are
/// free.
void check_config_change(const ExperimentConfig& config, const RunPaths& run, bool allowed) {
  if (!fs::exists(run.config())) return;
  if (!any_begun(run)) return;
  std::vector<std::string_view> ignored(std::begin(kHarmlessKeys), std::end(kHarmlessKeys));
  for (const auto& [stage, name] : enum_names(Stage{}))
    if (!begun(run, stage)) ignored.push_back(name);
  const auto former = load_config<ExperimentConfig>(run.config());
  std::string list;
  for (const auto& [key, old_value, new_value] : diff_configs(former, config, ignored))
    list += fmt::format("\n  {}: {} -> {}", key, old_value, new_value);
  if (list.empty()) return;
  if (!allowed)
    throw Error(
        "{}: the run began with another config; start over with --restart, go on with "
        "--allow-config-change, or set back:{}",
        run.root.string(), list);
  log_warning("{}: going on with another config than the run began with:{}", run.root.string(),
              list);
}

/// Whether the config of the run, as it was last, names other places for its data.
bool has_moved(const ExperimentConfig& config, const RunPaths& run) {
  if (!fs::exists(run.config())) return false;
  const auto former = load_config<ExperimentConfig>(run.config());
  return former.data.path != config.data.path ||
         former.data.validation_path != config.data.validation_path;
}

/// Refuses to continue with other images than the run began with: their number and names decide in
/// which order they are seen, and which of them validate. Under another path even the same names
/// may be those of other images, so some are compared.
void check_data_change(const ExperimentConfig& config, const ExperimentData& data,
                       const RunPaths& run, bool allowed) {
  std::string now = data.identity();
  if (config.data.kind != DatasetKind::kShapes)
    now += fmt::format("contents: {} {}\n", content_fingerprint(data.train()),
                       content_fingerprint(data.validation()));
  const std::string before = fs::exists(run.data()) ? read_file(run.data()) : now;
  // Run folders of former versions hold the identity alone.
  const bool same_names = before.starts_with(data.identity());
  const bool same_contents = now == before || before == data.identity();
  if ((!same_names || (!same_contents && has_moved(config, run))) && any_begun(run)) {
    const std::string change = fmt::format("found\n{}in place of\n{}", now, before);
    if (!allowed)
      throw Error(
          "{}: the run started with a different data set; start over with --restart, continue with "
          "--allow-config-change, or restore the images: {}",
          run.root.string(), change);
    log_warning("{}: continuing with a different data set than the run started with: {}",
                run.root.string(), change);
  }
  if (same_names && !same_contents && !has_moved(config, run) && any_begun(run))
    log_warning("{}: some images or captions have changed since the run began", run.root.string());
  write_file_atomically(run.data(), now);
}

/// One caption after another of the training images, at most `limit`, evenly spread.
class TrainingCaptions {
 public:
  TrainingCaptions(const Dataset& dataset, int64_t limit)
      : dataset_(dataset),
        limit_(limit),
        stride_(std::max<int64_t>(1, dataset.size() / limit)),
        progress_(std::in_place, "tokenizer: reading captions of images", dataset.size()) {}

  std::optional<std::string> next() {
    while (pending_.empty() && index_ < dataset_.size()) {
      try {
        pending_ = dataset_.captions(index_);
      } catch (const Error& error) {  // training counts and lists the sample when it meets it
        if (++unreadable_ == 1) first_reason_ = error.what();
      } catch (const std::system_error& error) {
        if (++unreadable_ == 1) first_reason_ = error.what();
      }
      index_ += stride_;
      if (progress_) progress_->update(std::min(index_, dataset_.size()));
    }
    if (pending_.empty()) return end(), std::nullopt;
    std::string caption = std::move(pending_.back());
    pending_.pop_back();
    if (++read_ == limit_) end();
    return caption;
  }

  /// What could not be read, for a message; empty if all could.
  std::string losses() const {
    if (unreadable_ == 0) return "";
    return fmt::format("the captions of {} pictures cannot be read, the first: {}", unreadable_,
                       first_reason_);
  }

 private:
  /// All are read, and sentencepiece begins, which tells nothing of how far it is.
  void end() {
    if (!progress_) return;
    progress_.reset();
    log_info("tokenizer: training on {} captions, about one minute per million", read_);
  }

  const Dataset& dataset_;
  int64_t limit_;
  int64_t stride_;
  int64_t index_ = 0;
  int64_t read_ = 0;
  std::optional<Progress> progress_;
  std::vector<std::string> pending_;
  int64_t unreadable_ = 0;
  std::string first_reason_;
};

Tokenizer trained_tokenizer(const TokenizerConfig& config, const Dataset& dataset) {
  log_info("tokenizer: training up to {} tokens on the captions of {} images", config.vocab_size,
           dataset.size());
  TrainingCaptions captions(dataset, config.max_training_captions);
  try {
    Tokenizer tokenizer(train_tokenizer([&] { return captions.next(); }, config));
    if (const std::string losses = captions.losses(); !losses.empty())
      log_warning("tokenizer: {}", losses);
    log_info("tokenizer: {} tokens{}", tokenizer.vocab_size(),
             tokenizer.vocab_size() < config.vocab_size ? ": the captions hold no more" : "");
    return tokenizer;
  } catch (const Error& error) {
    const std::string losses = captions.losses();
    throw Error("{}{}", error.what(), losses.empty() ? "" : "; " + losses);
  }
}

void run_tokenizer_stage(const ExperimentConfig& config, const RunPaths& run,
                         const ExperimentData& data) {
  if (fs::exists(run.tokenizer())) {
    log_info("tokenizer: done before");
    return;
  }
  const TokenizerConfig& tokenizer = config.tokenizer;
  write_file_atomically(run.tokenizer(),
                        (tokenizer.model.empty() ? trained_tokenizer(tokenizer, data.train())
                                                 : load_tokenizer(tokenizer.model))
                            .model());
}

/// Where a stage's newest checkpoint is.
TrainerState saved_state(const RunPaths& run, Stage stage) {
  const std::filesystem::path folder = run.checkpoints(to_string(stage));
  const auto newest = read_newest_checkpoint(folder, {kTrainerFile});
  return newest ? TrainerState::from_json(newest->files.at(kTrainerFile), folder.string())
                : TrainerState();
}

/// Whether the newest checkpoint, of which something has been read already, is whole.
bool is_newest_whole(const RunPaths& run, Stage stage) {
  const fs::path newest = checkpoints_in(run.checkpoints(to_string(stage))).front();
  try {
    verify_checkpoint(newest);
    return true;
  } catch (const Error& error) {
    log_warning(
        "{} was finished, but its checkpoint is damaged and its last steps are made again: {}",
        to_string(stage), error.what());
    return false;
  }
}

/// True, and said, if nothing of the stage is left to do; as the first rank sees it.
bool finished_before(const RunPaths& run, Stage stage, const TrainConfig& train,
                     ProcessGroup& group) {
  std::string done;  // of how many steps
  if (group.is_first())
    if (const TrainerState state = saved_state(run, stage);
        state.finished(train.steps) && is_newest_whole(run, stage))
      done = fmt::format("{} steps", state.step);
  done = group.broadcast(done);
  if (done.empty()) return false;
  log_info("{}: done before, {}", to_string(stage), done);
  return true;
}

void warn_of_emulated_bfloat16(const TrainTask& task, const TrainConfig& train,
                               c10::Device device) {
  if (train.precision == Precision::kBfloat16 && device.is_cpu() &&
      !this_processor().multiplies_bfloat16)
    log_warning(
        "{}.train.precision: this processor has no bfloat16 instructions and emulates them, some "
        "hundred times slower; --set {}.train.precision=float32",
        task.stage(), task.stage());
}

/// For preparation: see end_process().
OnStop end_when_stopped(const ProcessGroup& group, const StopSignal& stop) {
  return {group, stop, [&] { end_process(group, stop); }};
}

TrainOutcome train(TrainTask& task, const TrainConfig& train_config, const ExperimentConfig& config,
                   const RunPaths& run, const ExperimentOptions& options, const StopSignal& stop) {
  warn_of_emulated_bfloat16(task, train_config, options.device);
  if (train_config.warmup_steps > train_config.steps)
    log_warning(
        "{}.train: the {} steps end within the {} warmup_steps, before the learning rate reaches "
        "its peak",
        task.stage(), train_config.steps, train_config.warmup_steps);
  std::optional<OnStop> on_stop = end_when_stopped(*options.group, stop);
  Trainer trainer(task, train_config, run,
                  {.group = options.group,
                   .distributed = config.distributed,
                   .device = options.device,
                   .data_workers = config.data.workers,
                   .prefetch = config.data.prefetch});
  options.group->barrier();  // from here on no rank ends at once when it is asked to stop
  on_stop.emplace(*options.group, stop, [stage = task.stage()] {
    log_info(
        "{}: stop requested; saving after the current micro-batch (a second signal exits at once, "
        "without saving)",
        stage);
  });
  const TrainOutcome outcome = trainer.run(stop);
  log_info("{}: {} at step {} of {}", task.stage(),
           outcome == TrainOutcome::kFinished ? "finished" : "stopped", trainer.step(),
           train_config.steps);
  return outcome;
}

/// The EMA weights of the dVAE checkpoint that config.dalle.dvae_checkpoint asks for. The best one
/// gives way to the last one where it cannot be read.
CheckpointContent trained_dvae(const ExperimentConfig& config, const RunPaths& run) {
  const fs::path folder = run.checkpoints("dvae");
  auto last = read_newest_checkpoint(folder, {kAverageTensors});
  if (!last) throw Error("{}: no trained dVAE; run the stage dvae first", folder.string());
  if (last->step < config.dvae.train.steps)
    throw Error("{}: the dVAE is at step {} of {}; finish the stage dvae first", folder.string(),
                last->step, config.dvae.train.steps);
  if (config.dalle.dvae_checkpoint == DvaeCheckpoint::kLast) return std::move(*last);
  try {
    if (const auto best = best_checkpoint(folder); best && *best != last->path)
      return read_checkpoint(*best, {kAverageTensors});
  } catch (const Error& error) {
    log_warning("cannot read the best dVAE; using the last one instead: {}", error.what());
  }
  return std::move(*last);
}

/// The frozen dVAE of the second stage: the one that its checkpoints hold or, before there is any,
/// the trained one.
DiscreteVae frozen_dvae(const ExperimentConfig& config, const RunPaths& run) {
  DiscreteVae vae(config.dvae.model, config.dalle.train.precision);
  const fs::path folder = run.checkpoints(to_string(Stage::kDalle));
  if (const auto resumed = read_newest_checkpoint(folder, {kDvaeTensors})) {
    load_weights(*vae, resumed->tensors.at(kDvaeTensors), folder.string());
    return vae;
  }
  const CheckpointContent trained = trained_dvae(config, run);
  log_info("dalle: image tokens come from the dVAE of step {}", trained.step);
  load_weights(*vae, trained.tensors.at(kAverageTensors), trained.path.string());
  return vae;
}

TrainOutcome run_dvae_stage(const ExperimentConfig& config, const RunPaths& run,
                            ExperimentData& data, const ExperimentOptions& options,
                            const StopSignal& stop) {
  options.group->enter(Phase::kPreparing, 0);
  if (finished_before(run, Stage::kDvae, config.dvae.train, *options.group))
    return TrainOutcome::kFinished;
  DvaeTask task(config, data, options.device);
  return train(task, config.dvae.train, config, run, options, stop);
}

TrainOutcome run_dalle_stage(const ExperimentConfig& config, const RunPaths& run,
                             ExperimentData& data, const ExperimentOptions& options,
                             const StopSignal& stop) {
  options.group->enter(Phase::kPreparing, 0);
  if (finished_before(run, Stage::kDalle, config.dalle.train, *options.group))
    return TrainOutcome::kFinished;
  if (!fs::exists(run.tokenizer()))
    throw Error("{}: no tokenizer; run the stage tokenizer first", run.tokenizer().string());
  std::optional<OnStop> on_stop = end_when_stopped(*options.group, stop);
  const Tokenizer tokenizer = load_tokenizer(run.tokenizer());
  const DiscreteVae vae = frozen_dvae(config, run);
  if (options.group->world() > 1)
    check_agreement(*options.group, "dVAE", sha256(safetensors_bytes(weights_of(*vae))));
  DalleTask task(config, data, tokenizer, vae, options.device);
  if (config.dalle.cache_codes) {
    on_stop.emplace(*options.group, stop, [] {
      log_info("dalle: stop requested; saving the image tokens after the current batch of images");
    });
    if (!task.cache_codes(run.codes(), *options.group, stop)) return TrainOutcome::kStopped;
  }
  on_stop.reset();
  return train(task, config.dalle.train, config, run, options, stop);
}

/// Throws if some rank does not see what the first one writes into the run folder, in which all of
/// them write checkpoints.
void check_folder_is_shared(const RunPaths& run, ProcessGroup& group) {
  const std::string token = group.broadcast(fmt::format("{:08x}", std::random_device()()));
  const fs::path mark = run.root / (".seen-by-all-" + token);  // a new name: no cache knows it
  if (group.is_first()) write_file_atomically(mark, token);
  group.barrier();
  const std::vector<std::string> sees = group.gather(fs::exists(mark) ? "it" : "nothing");
  if (group.is_first()) fs::remove(mark);
  for (size_t rank = 0; rank < sees.size(); ++rank)
    if (sees[rank] != "it")
      throw Error(
          "{}: rank {} does not see there what rank 0 writes; all ranks need the run folder "
          "on one file system",
          run.root.string(), rank);
}

/// Lets the other ranks know of a stop that this one is asked for, until destroyed.
class StopWatch {
 public:
  StopWatch(ProcessGroup& group, const StopSignal& stop) : group_(group) {
    group_.watch_for_stop([&stop] { return stop.requested(); });
  }
  ~StopWatch() { group_.watch_for_stop({}); }
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;

 private:
  ProcessGroup& group_;
};

/// Throws if a rank runs another program, another experiment or on other data than the first one.
/// Each may keep the data at a place of its own.
void check_agreement_of_ranks(ProcessGroup& group, const ExperimentConfig& config,
                              const RunPaths& run, const ExperimentData& data) {
  if (group.world() == 1) return;
  check_folder_is_shared(run, group);
  const BuildInfo build = build_info();
  check_agreement(
      group, "program",
      fmt::format("dalle {} {}, LibTorch {}", build.version, build.git_revision, build.libtorch));
  ExperimentConfig placeless = config;
  placeless.data.path.clear();
  placeless.data.validation_path.clear();
  placeless.data.index_cache.clear();
  check_agreement(group, "config", dump_config(placeless));
  check_agreement(group, "data set", data.identity());
}

}  // namespace

void check_ranks(const ExperimentConfig& config, const std::optional<RunPaths>& run,
                 std::optional<Stage> only, int64_t ranks) {
  const auto check = [&](Stage stage, const TrainConfig& train) {
    if (only && *only != stage) return;
    if (run && saved_state(*run, stage).finished(train.steps)) return;
    check_ranks(std::string(to_string(stage)), train, config.distributed, ranks);
  };
  check(Stage::kDvae, config.dvae.train);
  check(Stage::kDalle, config.dalle.train);
}

TrainOutcome run_experiment(const ExperimentConfig& config, const RunPaths& run,
                            const ExperimentOptions& options, const StopSignal& stop) {
  ProcessGroup& group = *options.group;
  const StopWatch watch(group, stop);
  const auto wanted = [&](Stage stage) { return !options.only || *options.only == stage; };
  if (group.is_first()) {
    check_ranks(config, run, options.only, group.world());
    check_config_change(config, run, options.allow_config_change);
  }
  group.barrier();
  std::optional<OnStop> on_stop = end_when_stopped(group, stop);
  ExperimentData data(config, run, group.world());
  if (group.is_first()) {
    check_data_change(config, data, run, options.allow_config_change);
    write_file_atomically(run.config(), dump_config(config));  // once it is not needed as it was
  }
  check_agreement_of_ranks(group, config, run, data);
  if (group.is_first() && (wanted(Stage::kTokenizer) || wanted(Stage::kDalle)) &&
      !begun(run, Stage::kDalle))
    require_captions(data.train(), config.data.max_bad_fraction);

  if (wanted(Stage::kTokenizer) && group.is_first()) run_tokenizer_stage(config, run, data);
  group.barrier();
  on_stop.reset();
  if (wanted(Stage::kDvae) &&
      run_dvae_stage(config, run, data, options, stop) == TrainOutcome::kStopped)
    return TrainOutcome::kStopped;
  if (wanted(Stage::kDalle)) return run_dalle_stage(config, run, data, options, stop);
  return TrainOutcome::kFinished;
}

}  // namespace dalle
