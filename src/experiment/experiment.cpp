#include "experiment/experiment.h"

#include <exception>
#include <filesystem>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/machine.h"
#include "data/text/tokenizer.h"
#include "dist/agreement.h"
#include "experiment/config/dvae_source.h"
#include "experiment/rank_agreement.h"
#include "experiment/report/run_report.h"
#include "experiment/resume_guard.h"
#include "experiment/stages/clip_task.h"
#include "experiment/stages/dalle_task.h"
#include "experiment/stages/dvae_task.h"
#include "experiment/stages/experiment_data.h"
#include "experiment/stages/initial_weights.h"
#include "experiment/stages/tokenizer_stage.h"
#include "experiment/stop_relay.h"
#include "metrics/throughput.h"
#include "tensor/named_tensors.h"
#include "train/training_counters.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// What the stages of an experiment share; all of it outlives them.
struct StageContext {
  const ExperimentConfig& config;
  const RunPaths& run;
  ExperimentData& data;
  const ExperimentOptions& options;
  const StopSignal& stop;
};

/// The state in a stage's newest checkpoint.
TrainingCounters saved_state(const RunPaths& run, Stage stage) {
  const std::filesystem::path folder = run.checkpoints(to_string(stage));
  const auto newest = read_newest_checkpoint(folder, {kTrainerFile});
  return newest ? TrainingCounters::from_json(newest->files.at(kTrainerFile), folder.string())
                : TrainingCounters();
}

/// Whether all files of the newest checkpoint are intact; one of them has been read already.
bool is_newest_intact(const RunPaths& run, Stage stage) {
  const fs::path newest = checkpoints_in(run.checkpoints(to_string(stage))).front();
  try {
    verify_checkpoint(newest);
    return true;
  } catch (const Error& error) {
    log_warning(
        "{} was finished, but its newest checkpoint is corrupt; its last steps will be trained "
        "again: {}",
        to_string(stage), error.what());
    return false;
  }
}

/// Begins the preparation of a stage. Whether rank 0 finds nothing left to do in it, which it logs.
bool is_finished(const StageContext& context, Stage stage, const TrainConfig& train) {
  ProcessGroup& group = *context.options.group;
  group.set_phase(Phase::kPreparing, 0);
  std::string finished;
  if (group.is_rank_zero())
    if (const TrainingCounters state = saved_state(context.run, stage);
        state.finished(train.steps) && is_newest_intact(context.run, stage))
      finished = fmt::format("{} steps", state.step);
  finished = group.broadcast(finished);
  if (finished.empty()) return false;
  log_info("{}: already finished, {}", to_string(stage), finished);
  return true;
}

/// Warns if float32 would be faster: not every processor gains from its bfloat16 instructions.
/// @param bfloat16  in FLOP/s, as measured in the precision of the stage
void warn_of_slow_bfloat16(const TrainTask& task, const TrainConfig& train,
                           const ExperimentOptions& options, double bfloat16) {
  if (train.precision != Precision::kBfloat16 || !options.device.is_cpu() ||
      !options.group->is_rank_zero())
    return;
  if (!this_processor().has_bf16_matmul) {
    log_warning(
        "{}.train.precision: this processor has no bfloat16 instructions and emulates them, about "
        "a hundred times slower; use --set {}.train.precision=float32",
        task.stage(), task.stage());
    return;
  }
  const double float32 = measure_matmul_flops(options.device, Precision::kFloat32);
  constexpr double kNoise = 0.9;
  if (bfloat16 < kNoise * float32)
    log_warning(
        "{}.train.precision: this processor multiplies matrices more slowly in bfloat16 ({:.0f} "
        "GFLOP/s) than in float32 ({:.0f}); use --set {}.train.precision=float32",
        task.stage(), bfloat16 / 1e9, float32 / 1e9, task.stage());
}

/// Loads the initial weights into the model of a stage that has no checkpoint yet. Rank 0's state
/// reaches the other ranks.
void load_initial_weights(TrainTask& task, Stage stage, const StageContext& context) {
  const auto& [config, run, data, options, stop] = context;
  if (!options.group->is_rank_zero() || !checkpoints_in(run.checkpoints(task.stage())).empty())
    return;
  if (const auto weights = initial_weights(config, run, stage)) {
    load_weights(task.module(), *weights, (run.root / "from").string());
    log_info("{}: initialized from {}", task.stage(),
             stage == Stage::kClip ? config.from.clip_checkpoint : config.from.checkpoint);
  }
}

/// For preparation: see end_process().
StopRelay end_when_stopped(const ProcessGroup& group, const StopSignal& stop) {
  return {group, stop, [&] { end_process(group, stop); }};
}

/// Writes the report of the run so far. Errors are only logged: they must not end the training.
void report_on(const StageContext& context) {
  if (!context.options.group->is_rank_zero()) return;
  try {
    write_report(context.config, context.run, context.run.evaluation());
  } catch (const std::exception& error) {
    log_warning("cannot write the report of the run: {}", error.what());
  }
}

TrainOutcome train(TrainTask& task, Stage stage, const TrainConfig& train_config,
                   const StageContext& context) {
  const auto& [config, run, data, options, stop] = context;
  if (train_config.warmup_steps > train_config.steps)
    log_warning(
        "{}.train: the {} steps end within the {} warmup_steps, before the learning rate reaches "
        "its peak",
        task.stage(), train_config.steps, train_config.warmup_steps);
  std::optional<StopRelay> stop_relay = end_when_stopped(*options.group, stop);
  load_initial_weights(task, stage, context);
  const double matmul_flops = measure_matmul_flops(options.device, train_config.precision);
  warn_of_slow_bfloat16(task, train_config, options, matmul_flops);
  Trainer trainer(task, train_config, run,
                  {.group = options.group,
                   .distributed = config.distributed,
                   .device = options.device,
                   .data_workers = config.data.workers,
                   .prefetch = config.data.prefetch,
                   .matmul_flops = matmul_flops});
  options.group->barrier();  // from here on no rank ends at once when it is asked to stop
  stop_relay.emplace(*options.group, stop, [&task] {
    log_info(
        "{}: stop requested; saving after the current micro-batch (another signal, a second "
        "later, exits at once, without saving)",
        task.stage());
  });
  const TrainOutcome outcome = trainer.run(stop);
  log_info("{}: {} at step {} of {}", task.stage(),
           outcome == TrainOutcome::kFinished ? "finished" : "stopped", trainer.step(),
           train_config.steps);
  if (outcome == TrainOutcome::kFinished) report_on(context);
  return outcome;
}

/// The dVAE at config.dvae.checkpoint.
CheckpointContent given_dvae(const ExperimentConfig& config) {
  const DvaeSource found = find_trained_dvae(config.dvae.checkpoint, config.dalle.dvae_checkpoint);
  if (found.hash != config.dvae.checkpoint_sha256)
    throw Error("{}: has changed since the config was loaded", found.checkpoint.string());
  return read_checkpoint(found.checkpoint, {kEmaTensors});
}

/// The EMA weights of the dVAE checkpoint that config.dalle.dvae_checkpoint asks for. If the best
/// one cannot be read, the last one is used.
CheckpointContent trained_dvae(const ExperimentConfig& config, const RunPaths& run) {
  if (!config.dvae.checkpoint.empty()) return given_dvae(config);
  const fs::path folder = run.checkpoints("dvae");
  const auto last = read_newest_checkpoint(folder, {kEmaTensors}, /*later=*/{kEmaTensors});
  if (!last) throw Error("{}: no trained dVAE; run the dvae stage first", folder.string());
  if (last->step < config.dvae.train.steps)
    throw Error("{}: the dVAE is at step {} of {}; finish the dvae stage first", folder.string(),
                last->step, config.dvae.train.steps);
  return read_dvae_checkpoint(dvae_checkpoints(folder, config.dalle.dvae_checkpoint),
                              {kEmaTensors});
}

/// The frozen dVAE of the dalle stage: the one in its checkpoints or, before there is any, the
/// trained one.
DiscreteVae frozen_dvae(const ExperimentConfig& config, const RunPaths& run) {
  DiscreteVae vae(config.dvae.model, config.dalle.train.precision);
  const fs::path folder = run.checkpoints(to_string(Stage::kDalle));
  if (const auto resumed = read_newest_checkpoint(folder, {kDvaeTensors})) {
    load_weights(*vae, resumed->tensors.at(kDvaeTensors), folder.string());
    return vae;
  }
  if (config.dvae.checkpoint.empty() && !config.trains_dvae()) {
    log_info("dalle: image tokens come from the dVAE of {}", config.from.checkpoint);
    load_weights(*vae, initial_weights(config, run, Stage::kDvae).value(), run.root.string());
    return vae;
  }
  const CheckpointContent trained = trained_dvae(config, run);
  log_info("dalle: image tokens come from the dVAE of step {}", trained.step);
  load_weights(*vae, trained.tensors.at(kEmaTensors), trained.path.string());
  return vae;
}

Tokenizer trained_tokenizer(const RunPaths& run) {
  if (!fs::exists(run.tokenizer()))
    throw Error("{}: no tokenizer; run the tokenizer stage first", run.tokenizer().string());
  return load_tokenizer(run.tokenizer());
}

TrainOutcome run_tokenizer(const StageContext& context) {
  const StopRelay stop_relay = end_when_stopped(*context.options.group, context.stop);
  if (context.options.group->is_rank_zero())
    run_tokenizer_stage(context.config.tokenizer, context.data.train(), context.run,
                        initial_tokenizer(context.config, context.run));
  context.options.group->barrier();
  return TrainOutcome::kFinished;
}

TrainOutcome run_dvae(const StageContext& context) {
  const ExperimentConfig& config = context.config;
  if (!config.trains_dvae()) {
    if (!config.dvae.checkpoint.empty())
      log_info("dvae: skipped, since dvae.checkpoint names a trained one: {}",
               config.dvae.checkpoint);
    else
      log_info("dvae: skipped: dvae.freeze is true, so the dVAE of {} is used unchanged",
               config.from.checkpoint);
    return TrainOutcome::kFinished;
  }
  if (is_finished(context, Stage::kDvae, config.dvae.train)) return TrainOutcome::kFinished;
  DvaeTask task(config, context.data, context.options.device);
  return train(task, Stage::kDvae, config.dvae.train, context);
}

TrainOutcome run_dalle(const StageContext& context) {
  const auto& [config, run, data, options, stop] = context;
  if (is_finished(context, Stage::kDalle, config.dalle.train)) return TrainOutcome::kFinished;
  warn_of_untrained_guidance(config, config.sample);
  std::optional<StopRelay> stop_relay = end_when_stopped(*options.group, stop);
  const Tokenizer tokenizer = trained_tokenizer(run);
  const DiscreteVae vae = frozen_dvae(config, run);
  if (options.group->world_size() > 1)
    check_agreement(*options.group, "dVAE", sha256(safetensors_bytes(weights_of(*vae))));
  DalleTask task(config, data, tokenizer, vae, options.device);
  if (config.dalle.cache_codes) {
    stop_relay.emplace(*options.group, stop, [] {
      log_info("dalle: stop requested; saving the image tokens after the current batch of images");
    });
    if (!task.cache_codes(run.codes(), *options.group, stop)) return TrainOutcome::kStopped;
  }
  stop_relay.reset();
  return train(task, Stage::kDalle, config.dalle.train, context);
}

TrainOutcome run_clip(const StageContext& context) {
  const auto& [config, run, data, options, stop] = context;
  if (!config.clip) return TrainOutcome::kFinished;
  if (is_finished(context, Stage::kClip, config.clip->train)) return TrainOutcome::kFinished;
  std::optional<StopRelay> stop_relay = end_when_stopped(*options.group, stop);
  const Tokenizer tokenizer = trained_tokenizer(run);
  ClipTask task(config, data, tokenizer, options.device);
  stop_relay.reset();
  return train(task, Stage::kClip, config.clip->train, context);
}

/// In the order in which they run.
constexpr struct {
  Stage stage;
  TrainOutcome (*run)(const StageContext&);
} kStages[] = {{Stage::kTokenizer, run_tokenizer},
               {Stage::kDvae, run_dvae},
               {Stage::kDalle, run_dalle},
               {Stage::kClip, run_clip}};

}  // namespace

void check_ranks(const ExperimentConfig& config, const std::optional<RunPaths>& run,
                 std::optional<Stage> only, int64_t ranks) {
  for (const auto& [stage, train] : config.trained_stages()) {
    if (only && *only != stage) continue;
    if (run && saved_state(*run, stage).finished(train->steps)) continue;
    check_ranks(std::string(to_string(stage)), *train, config.distributed, ranks);
    if (stage == Stage::kClip) check_whole_share(*train, ranks);
  }
}

TrainOutcome run_experiment(const ExperimentConfig& config, const RunPaths& run,
                            const ExperimentOptions& options, const StopSignal& stop) {
  ProcessGroup& group = *options.group;
  const StopAnnouncer announcer(group, stop);
  const auto wanted = [&](Stage stage) { return !options.only || *options.only == stage; };
  PreviousRun previous;
  if (group.is_rank_zero()) {
    check_ranks(config, run, options.only, group.world_size());
    previous = read_previous_run(run);
    check_config_change(previous, config, run, options.allow_config_change);
    const std::string& dvae = config.dvae.checkpoint;
    if (!dvae.empty() && options.only == Stage::kDvae)
      throw Error("--stage dvae: nothing to train, since dvae.checkpoint names a trained one: {}",
                  dvae);
    if (!config.trains_dvae() && options.only == Stage::kDvae)
      throw Error(
          "--stage dvae: nothing to train: dvae.freeze is true, so the dVAE of from.checkpoint is "
          "used unchanged");
    if (!dvae.empty() && wanted(Stage::kDalle) && !previous.started.contains(Stage::kDalle) &&
        !fs::exists(dvae))
      throw Error("dvae.checkpoint: {}: no such folder, and the run has no copy of the dVAE yet",
                  dvae);
  }
  group.barrier();
  std::optional<StopRelay> stop_relay = end_when_stopped(group, stop);
  ExperimentData data(config, run, group.world_size());
  if (group.is_rank_zero()) {
    check_data_change(previous, config, data, run, options.allow_config_change);
    copy_weight_sources(config, run);
    write_file_atomically(run.config(), dump_config(config));
  }
  check_rank_agreement(group, config, run, data);
  const auto begins = [&](Stage stage) {
    return wanted(stage) && !previous.started.contains(stage);
  };
  if (group.is_rank_zero() &&
      ((wanted(Stage::kTokenizer) && !previous.started.contains(Stage::kDalle)) ||
       begins(Stage::kDalle) || (config.clip && begins(Stage::kClip))))
    require_captions(data.train(), config.data.max_invalid_fraction);
  group.barrier();
  stop_relay.reset();
  const StageContext context{config, run, data, options, stop};
  for (const auto& [stage, run_stage] : kStages)
    if (wanted(stage) && run_stage(context) == TrainOutcome::kStopped)
      return TrainOutcome::kStopped;
  return TrainOutcome::kFinished;
}

}  // namespace dalle
