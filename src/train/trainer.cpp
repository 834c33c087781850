#include "dalle/train/trainer.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/core/seconds.h"
#include "dalle/data/image.h"
#include "dalle/dist/tree_sum.h"
#include "dalle/train/checkpoint_files.h"
#include "dalle/train/replica_check.h"

namespace dalle {
namespace {

using Clock = std::chrono::steady_clock;

AdamWOptions adamw_options(const TrainConfig& config) {
  return {.beta1 = config.beta1,
          .beta2 = config.beta2,
          .epsilon = config.epsilon,
          .weight_decay = config.weight_decay};
}

NamedTensors on_host(const std::vector<std::pair<std::string, at::Tensor>>& views) {
  NamedTensors tensors;
  for (const auto& [name, view] : views) tensors.emplace_back(name, view.detach().cpu());
  return tensors;
}

double matrix_rate_of_all(ProcessGroup& group, c10::Device device, Precision precision) {
  const auto rate = torch::tensor({measure_matrix_rate(device, precision)},
                                  torch::TensorOptions(device).dtype(torch::kDouble));
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

  /// Also tells whether any of the ranks wants to stop.
  bool sum_over(ProcessGroup& group, c10::Device device, bool exact, bool wants_stop) {
    const auto wish = torch::full({1}, wants_stop ? 1.0 : 0.0, torch::kDouble);
    auto values = torch::cat({sum_.total(), wish}).to(device);
    if (exact)
      sum_in_tree(group, values);
    else
      group.sum(values);
    values = values.cpu();
    const double* value = values.const_data_ptr<double>();
    for (const std::string& name : names_) sums_.push_back({name, *value++});
    return *value > 0;
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

}  // namespace

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
      checkpoints_(run.checkpoints(task.stage()), config.keep_last),
      pictures_(run.samples() / task.stage()),
      throughput_(task.flops_per_sample(),
                  matrix_rate_of_all(*group_, options.device, config.precision)) {
  check_world();
  if (group_->is_first()) {
    make_directories(pictures_);
    restore(checkpoints_.load_newest());
    log_ = std::make_unique<MetricLog>(run.root, task.stage(), state_.step);
  } else {
    restore(std::nullopt);
  }
  loader_ = make_loader(options);
}

/// Throws if the ranks cannot share the batches.
void Trainer::check_world() const {
  const int64_t world = group_->world();
  if (config_.batch_size < world)
    throw Error("{}.train.batch_size: found {}, expected at least one sample for each of {} ranks",
                task_.stage(), config_.batch_size, world);
  if (!distributed_.exact) return;
  const int64_t micro_batches = config_.batch_size / config_.micro_batch_size;
  if (!std::has_single_bit(static_cast<uint64_t>(world)) || world > micro_batches)
    throw Error(
        "distributed.exact: found {} ranks, expected a power of two up to {}, the number of "
        "micro-batches in {}.train.batch_size",
        world, micro_batches, task_.stage());
}

/// This rank's part of every global batch: neighbours in it, as many as the other ranks have or one
/// more.
std::unique_ptr<BatchLoader> Trainer::make_loader(const TrainerOptions& options) {
  const int64_t batch_size = config_.batch_size;
  const int64_t begin = batch_size * group_->rank() / group_->world();
  const int64_t size = batch_size * (group_->rank() + 1) / group_->world() - begin;
  return std::make_unique<BatchLoader>(
      [this, batch_size, begin, size](int64_t number) {
        return task_.sample(number / size * batch_size + begin + number % size);
      },
      BatchLoaderOptions{.batch_size = size,
                         .first_position = state_.step * size,
                         .workers = options.data_workers,
                         .prefetch = options.prefetch});
}

TrainOutcome Trainer::run(const StopSignal& stop) {
  while (state_.step < config_.steps && !stop_) {
    train_step(stop);
    if (due(config_.log_every)) log();
    if (due(config_.eval_every)) evaluate();
    if (due(task_.picture_every())) show_pictures();
    if (due(config_.save_every)) save();
  }
  if (saved_step_ != state_.step) save();
  group_->barrier();  // nobody leaves before the checkpoint is there
  return state_.step == config_.steps ? TrainOutcome::kFinished : TrainOutcome::kStopped;
}

void Trainer::train_step(const StopSignal& stop) {
  const auto step_began = Clock::now();
  const double waited_s = loader_->wait_s();
  const double learning_rate = scheduled_learning_rate(config_, state_.step) * plateau_.factor();

  group_->enter(Phase::kLoading, state_.step);
  const Batch batch = loader_->next();
  group_->enter(Phase::kComputing, state_.step);
  const BatchTotals totals = count(batch);
  const int64_t micro_batch_size =
      config_.micro_batch_size > 0 ? config_.micro_batch_size : batch.size();

  reducer_->begin_step();
  StepLosses losses;
  for (int64_t begin = 0, end = 0; begin < batch.size(); begin = end) {
    end = std::min(begin + micro_batch_size, batch.size());
    const TaskLoss loss = task_.loss(batch.slice(begin, end), totals, state_.step);
    reducer_->before_backward(/*is_last=*/end == batch.size());
    loss.total.backward();
    reducer_->after_backward();
    losses.add(loss);
  }
  reducer_->finish();
  stop_ = losses.sum_over(*group_, parameters_.gradients().device(), distributed_.exact,
                          stop.requested());

  const double norm = reducer_->norm();
  if (losses.non_finite() == nullptr && std::isfinite(norm)) {
    if (config_.clip_norm > 0 && norm > config_.clip_norm)
      parameters_.gradients().mul_(config_.clip_norm / norm);
    optimizer_.step(parameters_.gradients(), learning_rate);
    reducer_->share_owned(parameters_.values());
    ++state_.updates;
    if (distributed_.check_replicas_every > 0 &&
        state_.updates % distributed_.check_replicas_every == 0)
      check_replicas(parameters_, *group_);
    if (state_.updates % config_.average_every == 0)
      average_.update(parameters_.values(), config_.average_decay);
    record(losses.sums(), norm);
  } else {
    skip(losses.non_finite());
  }
  ++state_.step;
  score_.reset();
  throughput_.add_step(config_.batch_size, seconds_since(step_began), loader_->wait_s() - waited_s);
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
  const std::string culprit =
      bad_loss != nullptr ? fmt::format("{} is {}", bad_loss->name, bad_loss->value)
                          : fmt::format("the gradient of {} is not finite",
                                        parameters_.first_non_finite(parameters_.gradients()));
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
  if (!group_->is_first()) return state_.since_log.clear();
  std::vector<Metric> metrics;
  for (const auto& [name, mean] : state_.since_log.means())
    metrics.push_back({name, mean, name.substr(name.find('/') + 1) + " {:.4f}"});
  const int64_t last_step = state_.step - 1;
  metrics.push_back(
      {"lr", scheduled_learning_rate(config_, last_step) * plateau_.factor(), "lr {:.1e}"});
  for (Metric& metric : task_.scheduled(last_step)) metrics.push_back(std::move(metric));
  if (state_.skipped() > 0)
    metrics.push_back({"skipped", static_cast<double>(state_.skipped()), "skipped {:.0f}"});
  const Throughput::Report speed = throughput_.report();
  std::vector<Metric> timings = {{"step_ms", speed.step_ms, "{:.0f} ms"},
                                 {"samples_per_s", speed.samples_per_s, "{:.1f} img/s"},
                                 {"gflops", speed.flops_per_s / 1e9, "{:.1f} GFLOP/s"},
                                 {"utilisation", 100 * speed.utilisation, "{:.1f}% MFU"},
                                 {"data_wait", 100 * speed.data_wait_fraction, "data {:.1f}%"}};
  const GradientReducer::Communication sent = reducer_->take_communication();
  if (group_->world() > 1 && sent.steps > 0)
    timings.push_back(
        {"sync_ms", 1e3 * sent.exposed_s / static_cast<double>(sent.steps), "sync {:.1f} ms"});
  if (sent.busy_s > 0)
    timings.push_back(
        {"sync_hidden", 100 * std::max(0.0, 1 - sent.exposed_s / sent.busy_s), "{:.0f}% hidden"});
  log_->write(state_.step, metrics, timings);
  state_.since_log.clear();
}

/// A state [P] whole on every rank, of which each has the part that it owns.
at::Tensor Trainer::gathered(at::Tensor owned) const {
  reducer_->share_owned(owned);
  return owned;
}

void Trainer::evaluate() {
  group_->enter(Phase::kEvaluating, state_.step);
  const at::Tensor average = gathered(average_.state().whole());
  if (group_->is_first()) {
    const auto begin = Clock::now();
    const FlatParameters::BoundValues averaged(parameters_, average);
    const torch::NoGradGuard no_grad;
    Evaluation evaluation = task_.evaluate(state_.step);
    score_ = evaluation.score;
    log_->write(state_.step, evaluation.metrics,
                std::vector<Metric>{{"evaluation_s", seconds_since(begin), "{:.1f} s"}});
  }
  if (state_.since_evaluation.empty()) return;  // every step since the last one was skipped
  if (plateau_.observe(state_.since_evaluation.mean("loss")))
    log_info("step {}: the training loss has stalled, learning rate cut to {:.3g} of its schedule",
             state_.step, plateau_.factor());
  state_.plateau = plateau_.state();
  state_.since_evaluation.clear();
}

void Trainer::show_pictures() {
  group_->enter(Phase::kDrawing, state_.step);
  const at::Tensor average = gathered(average_.state().whole());
  if (!group_->is_first()) return;
  const FlatParameters::BoundValues averaged(parameters_, average);
  const torch::NoGradGuard no_grad;
  for (const auto& [name, picture] : task_.pictures(state_.step)) {
    const std::string png = encode_picture(picture, PictureFormat::kPng);
    log_->picture(state_.step, name, png);
    write_file_atomically(pictures_ / fmt::format("{}-{:08d}.png", name, state_.step), png);
  }
}

void Trainer::save() {
  group_->enter(Phase::kSaving, state_.step);
  saved_step_ = state_.step;
  CheckpointContent content;
  const auto add = [&](const char* name, const at::Tensor& flat) {
    if (group_->is_first()) content.tensors[name] = on_host(parameters_.named_views(flat));
  };
  add(kWeightsTensors, parameters_.values());
  add(kAverageTensors, gathered(average_.state().whole()));
  add(kFirstMomentTensors, gathered(optimizer_.first_moment()));
  add(kSecondMomentTensors, gathered(optimizer_.second_moment()));
  if (!group_->is_first()) return;
  log_->sync();  // a run that goes on from this checkpoint finds its lines
  content.step = state_.step;
  content.files[kTrainerFile] = state_.to_json();
  task_.add_to_checkpoint(content);
  checkpoints_.save(content, score_);
}

/// Begins with the first rank's state on every rank: that of its checkpoint, or the initial
/// weights.
void Trainer::restore(const std::optional<CheckpointContent>& content) {
  if (content) {
    task_.check_checkpoint(*content);
    state_ =
        TrainerState::from_json(content->files.at(kTrainerFile), task_.stage() + " checkpoint");
    saved_step_ = state_.step;
    log_info("{}: going on from step {} of {}", task_.stage(), state_.step, config_.steps);
  }
  const auto shared = [&](const char* name, const at::Tensor& flat) {
    if (content) {
      // What is loaded is copied into the bound tensors: `flat` itself is filled.
      const FlatParameters::BoundValues bound(parameters_, flat);
      load_weights(task_.module(), content->tensors.at(name),
                   fmt::format("{}.safetensors of {}", name, checkpoints_.folder().string()));
    }
    group_->broadcast(flat);
    return flat;
  };
  shared(kWeightsTensors, parameters_.values());
  check_replicas(parameters_, *group_);
  average_.state().assign(shared(kAverageTensors, parameters_.values().clone()));
  optimizer_.set_moments(shared(kFirstMomentTensors, torch::zeros_like(parameters_.values())),
                         shared(kSecondMomentTensors, torch::zeros_like(parameters_.values())));
  state_ = TrainerState::from_json(group_->broadcast(state_.to_json()), task_.stage());
  plateau_ = PlateauCuts(config_.plateau, state_.plateau);
  optimizer_.set_updates(state_.updates);
}

}  // namespace dalle
