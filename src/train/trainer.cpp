#include "train/trainer.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/ranges.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "checkpoint/checkpoint_files.h"
#include "core/error.h"
#include "core/log.h"
#include "core/seconds.h"
#include "data/rank_slice.h"
#include "train/ema_evaluation.h"

namespace dalle {
namespace {

using Clock = std::chrono::steady_clock;

std::unique_ptr<BatchLoader> make_loader(const TrainTask& task, const RankSlice& part, int64_t step,
                                         const TrainerOptions& options) {
  return std::make_unique<BatchLoader>(
      [&task, part](int64_t number) { return task.sample(part.position(number)); },
      BatchLoaderOptions{.batch_size = part.size(),
                         .first_position = step * part.size(),
                         .workers = options.data_workers,
                         .prefetch = options.prefetch,
                         .pin_memory = options.device.is_cuda()});
}

/// @throws dalle::Error if a checkpoint of the task was made with another tokenizer
void check_tokenizer(const TrainTask& task, const CheckpointContent& checkpoint) {
  CheckpointContent own;
  task.add_to_checkpoint(own);
  const auto tokenizer = own.files.find(kTokenizerFile);
  if (tokenizer != own.files.end() && checkpoint.files.at(kTokenizerFile) != tokenizer->second)
    throw Error("{}: the tokenizer of its checkpoint differs from the one in the run folder",
                task.stage());
}

}  // namespace

void check_ranks(const std::string& stage, const TrainConfig& config,
                 const DistributedConfig& distributed, int64_t ranks) {
  if (config.batch_size < ranks)
    throw Error("{}.train.batch_size: found {}, expected at least one sample for each of {} ranks",
                stage, config.batch_size, ranks);
  if (!distributed.bitwise) return;
  const int64_t micro_batches = config.batch_size / config.micro_batch_size;
  if (!std::has_single_bit(static_cast<uint64_t>(ranks)) || ranks > micro_batches)
    throw Error(
        "distributed.bitwise: found {} ranks, expected a power of two up to {}, the number of "
        "micro-batches in {}.train.batch_size",
        ranks, micro_batches, stage);
}

Trainer::Trainer(TrainTask& task, const TrainConfig& config, const RunPaths& run,
                 const TrainerOptions& options)
    : task_(task),
      config_(config),
      group_(options.group),
      bitwise_(options.distributed.bitwise),
      state_(task.module(), config, options.distributed, task.traits().uses_muon,
             task.traits().decays, *group_),
      checkpoints_(run.checkpoints(task.stage()), config.keep_last, *group_) {
  check_ranks(task.stage(), config, options.distributed, group_->world_size());
  restore(run.checkpoints(task.stage()));
  report_ = std::make_unique<TrainingReport>(
      task.traits(), run, *group_, state_.device(),
      MetricPosition{.step = counters_.step, .lines = counters_.lines_of_step},
      options.matmul_flops);
  const RankSlice part(config.batch_size, group_->rank(), group_->world_size());
  loader_ = make_loader(task, part, counters_.step, options);
  const std::vector<FlatRange>& buckets = state_.reducer().buckets();
  if (group_->world_size() > 1)
    log_info("{}: gradients are reduced in buckets of {:.1f} MB or less ({} in all)", task.stage(),
             4e-6 * static_cast<double>(buckets[0].size), buckets.size());
}

TrainOutcome Trainer::run(const StopSignal& signal) {
  const StopCondition stop(signal, *group_);
  votes_.stop = group_->any(stop.requested());
  finish_step(stop);  // what a stop interrupted
  while (counters_.step < config_.steps && !votes_.stop) {
    train_step(stop);
    if (votes_.abandon) break;
    if (due(config_.log_every)) log();
    counters_.evaluation_due = due(config_.eval_every);
    counters_.samples_due = due(task_.traits().sample_every);
    counters_.checkpoint_due = due(config_.save_every) || votes_.save;
    finish_step(stop);
  }
  if (unsaved_) save();
  checkpoints_.finish();
  group_->barrier();  // no rank leaves before the checkpoint is complete
  return counters_.finished(config_.steps) ? TrainOutcome::kFinished : TrainOutcome::kStopped;
}

/// Evaluates, saves and generates sample images, if that is due and no stop was requested. What can
/// run out of memory comes last.
void Trainer::finish_step(const StopCondition& stop) {
  try {
    if (counters_.evaluation_due && !votes_.stop) evaluate(stop);
    if (counters_.checkpoint_due && !votes_.stop) save();
    if (counters_.samples_due && !votes_.stop) sample_images(stop);
  } catch (const StopRequested&) {  // on all ranks; the resumed run does the rest
    votes_.stop = true;
  }
  checkpoints_.check();
}

void Trainer::train_step(const StopCondition& stop) {
  const StepClock clock(*loader_, *group_);
  const int64_t step = counters_.step;
  group_->set_phase(Phase::kLoading, step);
  const Batch batch = loader_->next();
  const LossContext context{.counts = count_over_ranks(batch), .step = step, .group = *group_};

  GradientReducer& reducer = state_.reducer();
  StepLosses losses;
  const int64_t size = config_.micro_batch_size > 0 ? config_.micro_batch_size : batch.size();
  reducer.begin_step();
  int64_t end = 0;
  for (int64_t begin = 0; begin < batch.size() && !(begin > 0 && stop.requested()); begin = end) {
    group_->set_phase(Phase::kComputing, step);
    end = std::min(begin + size, batch.size());
    const TaskLoss loss = task_.loss(batch.slice(begin, end), context);
    reducer.before_backward(/*is_last=*/end == batch.size());
    loss.total.backward();
    reducer.after_backward();
    losses.add(loss);
  }
  reducer.finish();
  vote(losses, /*is_cut_short=*/end < batch.size(), stop);
  if (votes_.abandon) return;

  const double norm = state_.gradient_norm();
  if (losses.non_finite() == nullptr && std::isfinite(norm)) {
    state_.update(learning_rate(step), norm, [&] { task_.after_update(context); });
    record(losses.sums(), norm);
  } else {
    skip(losses);
  }
  ++counters_.step;
  counters_.score.reset();
  unsaved_ = true;
  report_->add_step(clock.measured(context.counts));
}

/// What the losses of the global batch are divided by.
LossCounts Trainer::count_over_ranks(const Batch& batch) {
  const LossCounts own = task_.count(batch);
  if (group_->world_size() == 1) return own;
  const auto counts = torch::tensor({own.samples, own.text_tokens, own.image_tokens}, torch::kLong)
                          .to(state_.device());
  group_->all_reduce(counts);
  const auto sums = counts.cpu();
  return {.samples = sums[0].item<int64_t>(),
          .text_tokens = sums[1].item<int64_t>(),
          .image_tokens = sums[2].item<int64_t>()};
}

double Trainer::learning_rate(int64_t step) const {
  return scheduled_learning_rate(config_, step) *
         plateau_factor(config_.plateau, counters_.plateau);
}

/// Adds up the losses over the ranks, which agree on whether the step counts and what follows it. A
/// step that is cut short to stop sooner does not count: the resumed run makes it again, with the
/// same bits.
void Trainer::vote(StepLosses& losses, bool is_cut_short, const StopCondition& stop) {
  const std::string changed = state_.changed_parameter();
  votes_ = losses.sum_over(*group_, state_.device(), bitwise_,
                           {.stop = stop.requested() || is_cut_short,
                            .save = is_save_time(),
                            .abandon = is_cut_short,
                            .weights_changed = !changed.empty()});
  if (votes_.weights_changed) state_.throw_weight_corruption(changed);
}

/// Whether rank 0's clock says that it is time for a checkpoint.
bool Trainer::is_save_time() const {
  return group_->is_rank_zero() && config_.save_every_minutes > 0 &&
         seconds_since(saved_at_) >= 60 * config_.save_every_minutes;
}

/// Counts a step that was made.
void Trainer::record(const std::vector<Metric>& losses, double gradient_norm) {
  counters_.updates = state_.updates();
  counters_.skipped_in_row = 0;
  for (const Metric& loss : losses) {
    counters_.since_log.add(loss.name, loss.value);
    counters_.since_evaluation.add(loss.name, loss.value);
  }
  counters_.since_log.add("grad_norm", gradient_norm);
}

/// Leaves weights, moments and EMA as they are: the step's loss or gradient is not finite.
void Trainer::skip(const StepLosses& losses) {
  std::vector<std::string> found;
  if (const Metric* bad_loss = losses.non_finite(); bad_loss != nullptr)
    found.push_back(fmt::format("{} is {}", bad_loss->name, bad_loss->value));
  if (const std::string tensor = state_.non_finite_tensor(); !tensor.empty())
    found.push_back(tensor);
  if (found.empty()) found.push_back("a gradient on another rank is not finite");
  const std::string culprit = fmt::format("{}", fmt::join(found, ", "));
  ++counters_.skipped_in_row;
  log_warning("step {}: skipped, {}", counters_.step + 1, culprit);
  if (counters_.skipped_in_row > config_.max_skipped_steps)
    throw Error(
        "{0}: step {1}: {2} steps in a row were skipped, the last because {3}; lower "
        "{0}.train.learning_rate or set {0}.train.max_grad_norm",
        task_.stage(), counters_.step + 1, counters_.skipped_in_row, culprit);
}

void Trainer::log() {
  const int64_t last_step = counters_.step - 1;
  std::vector<Metric> scheduled = {{"lr", learning_rate(last_step), "lr {:.1e}"}};
  for (Metric& metric : task_.scheduled(last_step)) scheduled.push_back(std::move(metric));
  report_->log(counters_, scheduled, state_.reducer().take_communication());
  // A longer training has no line of a step that is only the last one: its next line covers both.
  if (counters_.step % config_.log_every == 0) counters_.since_log.clear();
}

void Trainer::evaluate(const StopCondition& stop) {
  const auto begin = Clock::now();
  const auto evaluation = evaluate_ema(task_, state_, *group_, stop.check_stop(), counters_.step);
  if (evaluation) {
    const bool is_best = evaluation->score < counters_.best_score;
    counters_.score = evaluation->score;
    if (is_best) counters_.best_score = evaluation->score;
    counters_.checkpoint_due |= group_->any(is_best && config_.keep_best);
    report_->log_evaluation(counters_.step, evaluation->metrics, seconds_since(begin));
  }
  counters_.evaluation_due = false;
  unsaved_ = true;
  // A longer training does not evaluate a step that is only the last one: nothing may follow.
  if (counters_.step % config_.eval_every == 0) reduce_on_plateau();
}

/// Reduces the learning rate if the training loss has stalled since the last evaluations.
void Trainer::reduce_on_plateau() {
  if (counters_.since_evaluation.empty()) return;  // every step since the last one was skipped
  const double loss = counters_.since_evaluation.mean("loss");
  if (observe_loss(config_.plateau, counters_.plateau, loss))
    log_info(
        "step {}: the training loss has plateaued; learning rate reduced to {:.3g} times its "
        "scheduled value",
        counters_.step, plateau_factor(config_.plateau, counters_.plateau));
  counters_.since_evaluation.clear();
}

void Trainer::sample_images(const StopCondition& stop) {
  const auto grid = sample_ema(task_, state_, *group_, stop.check_stop(), counters_.step);
  if (grid) report_->show(counters_.step, *grid);
  counters_.samples_due = false;
  unsaved_ = true;
}

/// Copies the state and leaves the rest to a thread; each rank writes a part.
void Trainer::save() {
  const auto begin = Clock::now();
  group_->set_phase(Phase::kSaving, counters_.step);
  checkpoints_.finish();  // and free its copy of the state
  unsaved_ = false;
  saved_at_ = begin;
  counters_.checkpoint_due = counters_.evaluation_due;  // then once more, with its score
  CheckpointContent own{.step = counters_.step, .tensors = {}, .files = {}};
  state_.save_into(own,
                   [&](int64_t part) { return checkpoints_.writes(part, TrainingState::kParts); });
  if (group_->is_rank_zero()) {
    counters_.lines_of_step = report_->sync(counters_.step);
    own.files[kTrainerFile] = counters_.to_json();
    for (const auto& [name, tensor] : task_.state())
      own.tensors[kTaskTensors].emplace_back(name, tensor.to(torch::kCPU).clone());
    task_.add_to_checkpoint(own);
  }
  checkpoints_.begin(std::move(own), TrainingState::kParts, counters_.score);
  report_->add_save_pause(seconds_since(begin));
}

/// Starts every rank with rank 0's state: that of its newest checkpoint, or the initial weights.
void Trainer::restore(const std::filesystem::path& checkpoints) {
  std::optional<std::filesystem::path> path;
  const NamedTensors state = task_.state();
  if (group_->is_rank_zero()) {
    if (const auto checkpoint =
            read_newest_checkpoint(checkpoints, /*only=*/{}, TrainingState::tensor_names())) {
      check_tokenizer(task_, *checkpoint);
      counters_ = TrainingCounters::from_json(checkpoint->files.at(kTrainerFile),
                                              task_.stage() + " checkpoint");
      path = checkpoint->path;
      const auto saved = checkpoint->tensors.find(kTaskTensors);
      load_tensors(state, saved == checkpoint->tensors.end() ? NamedTensors() : saved->second,
                   tensors_file(*path, kTaskTensors).string());
      log_info("{}: resuming from step {} of {}", task_.stage(), counters_.step, config_.steps);
    }
  }
  counters_ = TrainingCounters::from_json(group_->broadcast(counters_.to_json()), task_.stage());
  for (const auto& [name, tensor] : state) group_->broadcast(tensor);
  unsaved_ = !state_.restore(path, counters_.updates);
}

}  // namespace dalle
