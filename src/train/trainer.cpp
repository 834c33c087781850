#include "dalle/train/trainer.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <new>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/ranges.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/core/seconds.h"
#include "dalle/data/batch_part.h"
#include "dalle/data/image.h"
#include "dalle/dist/tree_sum.h"
#include "dalle/train/checkpoint_files.h"
#include "dalle/train/out_of_memory.h"

namespace dalle {
namespace {

using Clock = std::chrono::steady_clock;

AdamWOptions adamw_options(const TrainConfig& config) {
  return {.beta1 = config.beta1,
          .beta2 = config.beta2,
          .epsilon = config.epsilon,
          .weight_decay = config.weight_decay};
}

double rate_of_all(ProcessGroup& group, const TrainerOptions& options, Precision precision) {
  const double own = options.matrix_rate > 0 ? options.matrix_rate
                                             : measure_matrix_rate(options.device, precision);
  const auto rate =
      torch::tensor({own}, torch::TensorOptions(options.device).dtype(torch::kDouble));
  group.sum(rate);
  return rate.item<double>();
}

/// The losses of a step: added up over its micro-batches and then over the ranks, in the tree's
/// order, as exact training wants it.
class StepLosses {
 public:
  void add(const TaskLoss& loss) {
    std::vector<double> values{loss.total.item<double>()};
    names_ = {"loss"};
    for (const auto& [name, value] : loss.parts) {
      values.push_back(value.item<double>());
      names_.push_back("loss/" + name);
    }
    sum_.add(torch::tensor(values, torch::kDouble));
  }

  /// Also returns what any of the ranks wishes for.
  Wishes sum_over(ProcessGroup& group, c10::Device device, bool exact, const Wishes& own) {
    const auto wishes = torch::tensor({own.stop ? 1.0 : 0.0, own.save ? 1.0 : 0.0,
                                       own.abandon ? 1.0 : 0.0, own.report ? 1.0 : 0.0},
                                      torch::kDouble);
    auto values = torch::cat({sum_.total(), wishes}).to(device);
    if (exact)
      sum_in_tree(group, values);
    else
      group.sum(values);
    values = values.cpu();
    const double* value = values.const_data_ptr<double>();
    for (const std::string& name : names_) sums_.push_back({name, *value++});
    return {.stop = value[0] > 0,
            .save = value[1] > 0,
            .abandon = value[2] > 0,
            .report = value[3] > 0};
  }

  const std::vector<Metric>& sums() const { return sums_; }

  /// The first loss that is not finite, or null.
  const Metric* non_finite() const {
    for (const Metric& sum : sums_)
      if (!std::isfinite(sum.value)) return &sum;
    return nullptr;
  }

 private:
  TreeSum sum_;
  std::vector<std::string> names_;
  std::vector<Metric> sums_;
};

/// A number of each rank, as a few words' worth.
struct RankSpread {
  double smallest = 0;
  double median = 0;
  double largest = 0;
  int64_t largest_of = 0;  ///< rank
};

RankSpread spread_over(ProcessGroup& group, c10::Device device, double own) {
  const auto options = torch::TensorOptions(device).dtype(torch::kDouble);
  auto all = torch::empty({group.world()}, options);
  group.all_gather(all, torch::full({1}, own, options));
  const auto [values, ranks] = all.cpu().sort();
  const int64_t last = group.world() - 1;
  return {.smallest = values[0].item<double>(),
          .median = values[last / 2].item<double>(),
          .largest = values[last].item<double>(),
          .largest_of = ranks[last].item<int64_t>()};
}

}  // namespace

void check_ranks(const std::string& stage, const TrainConfig& config,
                 const DistributedConfig& distributed, int64_t ranks) {
  if (config.batch_size < ranks)
    throw Error("{}.train.batch_size: found {}, expected at least one sample for each of {} ranks",
                stage, config.batch_size, ranks);
  if (!distributed.exact) return;
  const int64_t micro_batches = config.batch_size / config.micro_batch_size;
  if (!std::has_single_bit(static_cast<uint64_t>(ranks)) || ranks > micro_batches)
    throw Error(
        "distributed.exact: found {} ranks, expected a power of two up to {}, the number of "
        "micro-batches in {}.train.batch_size",
        ranks, micro_batches, stage);
}

Trainer::Trainer(TrainTask& task, const TrainConfig& config, const RunPaths& run,
                 const TrainerOptions& options)
    : task_(task),
      config_(config),
      group_(options.group),
      distributed_(options.distributed),
      parameters_(task.module(), group_->world()),
      reducer_(make_gradient_reducer(parameters_, *group_, options.distributed)),
      optimizer_(
          parameters_, config.optimizer, adamw_options(config),
          [&](const std::string& name) { return task.is_hidden_matrix(name); }, reducer_->owned()),
      average_(parameters_.values(), reducer_->owned()),
      plateau_(config.plateau),
      checkpoints_(run.checkpoints(task.stage()), config.keep_last, *group_),
      pictures_(run.samples() / task.stage()),
      throughput_(task.flops_per_sample(), rate_of_all(*group_, options, config.precision)) {
  check_ranks(task.stage(), config, distributed_, group_->world());
  if (group_->is_first()) {
    make_directories(pictures_);
    restore(checkpoints_.load_newest(
        {kWeightsTensors, kAverageTensors, kFirstMomentTensors, kSecondMomentTensors}));
    log_ = std::make_unique<MetricLog>(run.root, task.stage(),
                                       MetricPosition{.step = state_.step, .lines = state_.lines});
  } else {
    restore(std::nullopt);
  }
  loader_ = make_loader(options);
  if (group_->world() > 1)
    log_info("{}: the gradient is sent in {} buckets of {:.1f} MB at most", task_.stage(),
             reducer_->buckets().size(), 4e-6 * static_cast<double>(reducer_->buckets()[0].size));
}

std::unique_ptr<BatchLoader> Trainer::make_loader(const TrainerOptions& options) {
  const BatchPart part(config_.batch_size, group_->rank(), group_->world());
  return std::make_unique<BatchLoader>(
      [this, part](int64_t number) { return task_.sample(part.position(number)); },
      BatchLoaderOptions{.batch_size = part.size(),
                         .first_position = state_.step * part.size(),
                         .workers = options.data_workers,
                         .prefetch = options.prefetch});
}

TrainOutcome Trainer::run(const StopSignal& stop) {
  wishes_.stop = is_any_rank_stopped(stop);
  finish_step(stop);  // what a stop broke off
  while (state_.step < config_.steps && !wishes_.stop) {
    train_step(stop);
    if (wishes_.abandon) break;
    if (due(config_.log_every)) log();
    state_.evaluation_due = due(config_.eval_every);
    state_.pictures_due = due(task_.picture_every());
    state_.checkpoint_due = due(config_.save_every) || wishes_.save;
    finish_step(stop);
  }
  if (unsaved_) save();
  checkpoints_.finish();
  group_->barrier();  // nobody leaves before the checkpoint is there
  return state_.finished(config_.steps) ? TrainOutcome::kFinished : TrainOutcome::kStopped;
}

/// Evaluates, saves and generates sample images, if that is due and nobody wants to stop. What can
/// run out of memory comes last.
void Trainer::finish_step(const StopSignal& stop) {
  if (state_.evaluation_due && !wishes_.stop) evaluate(stop);
  if (state_.checkpoint_due && !wishes_.stop) save();
  if (state_.pictures_due && !wishes_.stop) show_pictures(stop);
  checkpoints_.check();
}

void Trainer::train_step(const StopSignal& stop) {
  const auto step_began = Clock::now();
  const double data_wait_s = loader_->wait_s(), rank_wait_s = group_->waited_s();
  const double learning_rate = scheduled_learning_rate(config_, state_.step) * plateau_.factor();

  group_->enter(Phase::kLoading, state_.step);
  const Batch batch = loader_->next();
  const BatchTotals totals = count(batch);
  const int64_t micro_batch_size =
      config_.micro_batch_size > 0 ? config_.micro_batch_size : batch.size();

  reducer_->begin_step();
  StepLosses losses;
  int64_t end = 0;
  for (int64_t begin = 0; begin < batch.size() && !(begin > 0 && must_stop(stop)); begin = end) {
    group_->enter(Phase::kComputing, state_.step);
    end = std::min(begin + micro_batch_size, batch.size());
    const TaskLoss loss = task_.loss(batch.slice(begin, end), totals, state_.step);
    reducer_->before_backward(/*is_last=*/end == batch.size());
    loss.total.backward();
    reducer_->after_backward();
    losses.add(loss);
  }
  reducer_->finish();
  const bool is_cut_short = end < batch.size();
  const std::string changed = guards_shards() ? seal_.broken(parameters_) : "";
  wishes_ = losses.sum_over(*group_, parameters_.gradients().device(), distributed_.exact,
                            {.stop = stop.requested() || is_cut_short,
                             .save = wants_to_save(),
                             .abandon = is_cut_short,
                             .report = !changed.empty()});
  if (wishes_.report) report_change(changed);
  if (wishes_.abandon) return;

  const double norm = reducer_->norm();
  if (losses.non_finite() == nullptr && std::isfinite(norm)) {
    if (distributed_.check_replicas_every > 0 &&
        (state_.updates + 1) % distributed_.check_replicas_every == 0)
      check_replicas(parameters_, *group_);
    if (config_.clip_norm > 0 && norm > config_.clip_norm)
      parameters_.gradients().mul_(config_.clip_norm / norm);
    optimizer_.step(parameters_.gradients(), learning_rate);
    reducer_->share_owned(parameters_.values());
    if (guards_shards()) seal_.set(parameters_);
    ++state_.updates;
    if (state_.updates % config_.average_every == 0)
      average_.update(parameters_.values(), config_.average_decay);
    record(losses.sums(), norm);
  } else {
    skip(losses.non_finite());
  }
  ++state_.step;
  state_.score.reset();
  unsaved_ = true;
  throughput_.add_step(config_.batch_size, {.step_s = seconds_since(step_began),
                                            .data_wait_s = loader_->wait_s() - data_wait_s,
                                            .rank_wait_s = group_->waited_s() - rank_wait_s});
}

/// Whether this rank, or as far as is known another one, was asked to stop: what is left of a step
/// is then not waited for. The step is made anew, with the same bits, when the run goes on.
bool Trainer::must_stop(const StopSignal& stop) const {
  return stop.requested() || group_->stop_is_wanted();
}

/// must_stop() as all ranks agree on it.
bool Trainer::is_any_rank_stopped(const StopSignal& stop) {
  const auto stopped =
      torch::full({1}, must_stop(stop) ? 1 : 0, torch::kLong).to(parameters_.gradients().device());
  group_->sum(stopped);
  return stopped.item<int64_t>() > 0;
}

bool Trainer::guards_shards() const {
  return distributed_.check_replicas_every > 0 && distributed_.shard_optimizer &&
         group_->world() > 1;
}

/// Ends the training on all ranks: weights of one of them have changed between two updates.
/// @param changed  the parameter of this rank; empty if another rank found one
void Trainer::report_change(const std::string& changed) {
  const std::vector<std::string> found = group_->gather(changed);
  for (size_t rank = 0; rank < found.size(); ++rank)
    if (!found[rank].empty())
      throw Error(
          "the weights of rank {} have changed between two updates, in {}: a faulty memory or "
          "processor; go on from the last checkpoint without it",
          rank, found[rank]);
}

/// Whether the first rank's clock says that it is time for a checkpoint.
bool Trainer::wants_to_save() const {
  return group_->is_first() && config_.save_every_minutes > 0 &&
         seconds_since(saved_at_) >= 60 * config_.save_every_minutes;
}

/// What the global batch is divided by: counted over the parts of all ranks.
BatchTotals Trainer::count(const Batch& batch) {
  const BatchTotals own = task_.count(batch);
  const auto counts = torch::tensor({own.samples, own.text_tokens}, torch::kLong)
                          .to(parameters_.gradients().device());
  group_->sum(counts);
  return {.samples = counts[0].item<int64_t>(), .text_tokens = counts[1].item<int64_t>()};
}

/// Notes the losses of a step that was made.
void Trainer::record(const std::vector<Metric>& losses, double norm) {
  state_.skipped_in_row = 0;
  for (const Metric& loss : losses) {
    state_.since_log.add(loss.name, loss.value);
    state_.since_evaluation.add(loss.name, loss.value);
  }
  state_.since_log.add("norm", norm);
}

/// Leaves weights, moments and average as they are: the step's loss or gradient is not finite.
void Trainer::skip(const Metric* bad_loss) {
  std::vector<std::string> found;
  if (bad_loss != nullptr)
    found.push_back(fmt::format("{} is {}", bad_loss->name, bad_loss->value));
  if (const auto name = parameters_.first_non_finite(parameters_.values()); !name.empty())
    found.push_back(fmt::format("the weight {} is not finite", name));
  else if (const auto gradient = parameters_.first_non_finite(parameters_.gradients());
           !gradient.empty())
    found.push_back(fmt::format("the gradient of {} is not finite", gradient));
  if (found.empty()) found.push_back("a gradient that another rank owns is not finite");
  const std::string culprit = fmt::format("{}", fmt::join(found, ", "));
  ++state_.skipped_in_row;
  log_warning("step {}: skipped, {}", state_.step + 1, culprit);
  if (state_.skipped_in_row > config_.max_skipped_steps)
    throw Error(
        "{}: step {}: {} steps in a row were skipped, the last because {}; lower "
        "{}.train.learning_rate "
        "or set {}.train.clip_norm",
        task_.stage(), state_.step + 1, state_.skipped_in_row, culprit, task_.stage(),
        task_.stage());
}

void Trainer::log() {
  const std::vector<Metric> times = timings();
  if (group_->is_first()) {
    std::vector<Metric> metrics;
    for (const auto& [name, mean] : state_.since_log.means())
      metrics.push_back({name, mean, name.substr(name.find('/') + 1) + " {:.4f}"});
    const int64_t last_step = state_.step - 1;
    metrics.push_back(
        {"lr", scheduled_learning_rate(config_, last_step) * plateau_.factor(), "lr {:.1e}"});
    for (Metric& metric : task_.scheduled(last_step)) metrics.push_back(std::move(metric));
    if (state_.skipped() > 0)
      metrics.push_back({"skipped", static_cast<double>(state_.skipped()), "skipped {:.0f}"});
    log_->write(state_.step, metrics, times);
  }
  // A longer training has no line of a step that is only the last one: its next line covers both.
  if (state_.step % config_.log_every == 0) state_.since_log.clear();
}

/// What the clock measured since the last log. All ranks call it.
std::vector<Metric> Trainer::timings() {
  const Throughput::Report speed = throughput_.report();
  std::vector<Metric> timings = {{"step_ms", speed.step_ms, "{:.0f} ms"},
                                 {"samples_per_s", speed.samples_per_s, "{:.1f} img/s"},
                                 {"gflops", speed.flops_per_s / 1e9, "{:.1f} GFLOP/s"},
                                 {"utilisation", 100 * speed.utilisation, "{:.1f}% MFU"},
                                 {"data_wait", 100 * speed.data_wait_fraction, "data {:.1f}%"}};
  if (const double pause_s = std::exchange(save_pause_s_, 0); pause_s > 0)
    timings.push_back({"save_ms", 1e3 * pause_s, "save {:.0f} ms"});
  const GradientReducer::Communication sent = reducer_->take_communication();
  if (group_->world() == 1 || sent.steps == 0) return timings;
  timings.push_back(
      {"sync_ms", 1e3 * sent.exposed_s / static_cast<double>(sent.steps), "sync {:.1f} ms"});
  if (sent.busy_s > 0)
    timings.push_back(
        {"sync_hidden", 100 * std::max(0.0, 1 - sent.exposed_s / sent.busy_s), "{:.0f}% hidden"});
  const RankSpread own = spread_over(*group_, parameters_.gradients().device(), speed.own_ms);
  timings.push_back({"own", own.median, "own {:.0f} ms"});
  timings.push_back({"own/min", own.smallest, "from {:.0f}"});
  timings.push_back({"own/max", own.largest, "to {:.0f}"});
  timings.push_back({"own/slowest_rank", static_cast<double>(own.largest_of), "(rank {:.0f})"});
  return timings;
}

/// What states of each rank hold of a flat buffer [P], whole on every rank: in the memory of the
/// gradient, which the next step zeroes. Valid until the next call.
at::Tensor Trainer::gathered(const std::vector<FlatState*>& states) {
  const at::Tensor& flat = parameters_.gradients();
  flat.zero_();
  for (const FlatState* state : states) state->copy_to(flat);
  reducer_->share_owned(flat);
  return flat;
}

/// Lets the first rank work while the others wait for it.
/// @return false, on all ranks, if a stop broke the work off
bool Trainer::on_first_rank(Phase phase, const StopSignal& stop,
                            const std::function<void(const CheckStop&)>& work) {
  group_->enter(phase, state_.step);
  if (group_->is_first()) {
    try {
      work([&] {
        if (must_stop(stop)) throw StopRequested();
      });
    } catch (const StopRequested&) {
      wishes_.stop = true;
    }
  }
  wishes_.stop = group_->broadcast(std::string(wishes_.stop ? "stop" : "go on")) == "stop";
  return !wishes_.stop;
}

void Trainer::evaluate(const StopSignal& stop) {
  const at::Tensor average = gathered({&average_.state()});
  const bool done = on_first_rank(Phase::kEvaluating, stop, [&](const CheckStop& check_stop) {
    const auto begin = Clock::now();
    const FlatParameters::BoundValues averaged(parameters_, average);
    const torch::NoGradGuard no_grad;
    Evaluation evaluation = task_.evaluate(state_.step, check_stop);
    if (evaluation.metrics.empty()) return;
    state_.score = evaluation.score;
    if (evaluation.score < state_.best_score) {
      state_.best_score = evaluation.score;
      state_.checkpoint_due |= config_.keep_best;
    }
    log_->write(state_.step, evaluation.metrics,
                std::vector<Metric>{{"evaluation_s", seconds_since(begin), "{:.1f} s"}});
  });
  if (!done) return;
  state_.checkpoint_due =
      group_->broadcast(std::string(state_.checkpoint_due ? "save" : "go on")) == "save";
  state_.evaluation_due = false;
  unsaved_ = true;
  // A longer training does not evaluate a step that is only the last one: nothing may follow.
  if (state_.step % config_.eval_every != 0) return;
  if (state_.since_evaluation.empty()) return;  // every step since the last one was skipped
  if (plateau_.observe(state_.since_evaluation.mean("loss")))
    log_info("step {}: the training loss has stalled, learning rate cut to {:.3g} of its schedule",
             state_.step, plateau_.factor());
  state_.plateau = plateau_.state();
  state_.since_evaluation.clear();
}

void Trainer::show_pictures(const StopSignal& stop) {
  const at::Tensor average = gathered({&average_.state()});
  const bool done = on_first_rank(Phase::kDrawing, stop, [&](const CheckStop& check_stop) {
    for (const auto& [name, picture] : sample_images(average, check_stop)) {
      const std::string png = encode_picture(picture, PictureFormat::kPng);
      log_->picture(state_.step, name, png);
      write_file_atomically(pictures_ / fmt::format("{}-{:08d}.png", name, state_.step), png);
    }
  });
  if (!done) return;
  state_.pictures_due = false;
  unsaved_ = true;
}

/// The task's sample images; none where they take more memory than there is.
std::vector<NamedPicture> Trainer::sample_images(const at::Tensor& average,
                                                 const CheckStop& check_stop) {
  const FlatParameters::BoundValues averaged(parameters_, average);
  const torch::NoGradGuard no_grad;
  try {
    return task_.pictures(state_.step, check_stop);
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
    const std::string reason = error.what();  // a backtrace follows
    log_warning(
        "{}: step {}: out of memory while generating sample images, which are skipped; training "
        "continues. Increase {} to try less often: {}",
        task_.stage(), state_.step, task_.picture_key(), reason.substr(0, reason.find('\n')));
    return {};
  }
}

/// Copies the state and leaves the rest to a thread; the ranks write a part each.
void Trainer::save() {
  const auto begin = Clock::now();
  group_->enter(Phase::kSaving, state_.step);
  checkpoints_.finish();  // and free its copy of the state
  unsaved_ = false;
  saved_at_ = begin;
  state_.checkpoint_due = state_.evaluation_due;  // then once more, with its score
  CheckpointContent own{.step = state_.step, .tensors = {}, .files = {}};
  constexpr int64_t kParts = 4;
  const auto add = [&](int64_t part, const char* name, const at::Tensor& flat) {
    if (checkpoints_.writes(part, kParts))
      own.tensors[name] = parameters_.named_views(
          flat.detach().to(torch::kCPU, flat.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
  };
  add(0, kWeightsTensors, parameters_.values());
  add(1, kAverageTensors, gathered({&average_.state()}));
  add(2, kFirstMomentTensors, gathered(optimizer_.first_moment()));
  add(3, kSecondMomentTensors, gathered(optimizer_.second_moment()));
  if (group_->is_first()) {
    log_->sync();  // a run that goes on from this checkpoint finds its lines
    state_.lines = log_->lines_of(state_.step);
    own.files[kTrainerFile] = state_.to_json();
    task_.add_to_checkpoint(own);
  }
  checkpoints_.begin(std::move(own), kParts, state_.score);
  save_pause_s_ += seconds_since(begin);
}

/// Begins with the first rank's state on every rank: that of its checkpoint, or the initial
/// weights. One state at a time is read, and handed on in the memory of the gradient.
/// @param content  without the tensors of the states
void Trainer::restore(const std::optional<CheckpointContent>& content) {
  if (content) {
    task_.check_checkpoint(*content);
    state_ =
        TrainerState::from_json(content->files.at(kTrainerFile), task_.stage() + " checkpoint");
    log_info("{}: going on from step {} of {}", task_.stage(), state_.step, config_.steps);
  }
  const auto share = [&](const char* name, const at::Tensor& flat) {
    if (content) {
      // What is loaded is copied into the bound tensors: `flat` itself is filled.
      const FlatParameters::BoundValues bound(parameters_, flat);
      load_weights(task_.module(), read_tensors(content->path, name),
                   fmt::format("{}.safetensors of {}", name, checkpoints_.folder().string()));
    }
    group_->broadcast(flat);
  };
  const auto restore_states = [&](const char* name, const std::vector<FlatState*>& states) {
    share(name, parameters_.gradients());
    for (FlatState* state : states) state->assign(parameters_.gradients());
  };
  share(kWeightsTensors, parameters_.values());
  check_replicas(parameters_, *group_);
  if (guards_shards()) seal_.set(parameters_);
  unsaved_ = group_->broadcast(std::string(content ? "saved" : "new")) == "new";
  if (unsaved_) {
    average_.state().assign(parameters_.values());
  } else {
    restore_states(kAverageTensors, {&average_.state()});
    restore_states(kFirstMomentTensors, optimizer_.first_moment());
    restore_states(kSecondMomentTensors, optimizer_.second_moment());
  }
  state_ = TrainerState::from_json(group_->broadcast(state_.to_json()), task_.stage());
  plateau_ = PlateauCuts(config_.plateau, state_.plateau);
  optimizer_.set_updates(state_.updates);
}

}  // namespace dalle
