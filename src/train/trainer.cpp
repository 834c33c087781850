#include "dalle/train/trainer.h"

#include <chrono>
#include <cmath>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/data/image.h"
#include "dalle/train/checkpoint_files.h"

namespace dalle {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

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

/// The losses of a step, summed over its micro-batches and then over the ranks.
class StepLosses {
 public:
  void add(const TaskLoss& loss) {
    add("loss", loss.total.item<double>());
    for (const auto& [name, value] : loss.parts) add("loss/" + name, value.item<double>());
  }

  /// Also tells whether any of the ranks wants to stop.
  bool sum_over(ProcessGroup& group, c10::Device device, bool wants_stop) {
    auto values = torch::zeros({static_cast<int64_t>(sums_.size()) + 1}, torch::kDouble);
    double* value = values.mutable_data_ptr<double>();
    for (const Metric& sum : sums_) *value++ = sum.value;
    *value = wants_stop ? 1 : 0;
    values = values.to(device);
    group.sum(values);
    values = values.cpu();
    value = values.mutable_data_ptr<double>();
    for (Metric& sum : sums_) sum.value = *value++;
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
  void add(const std::string& name, double value) {
    for (Metric& sum : sums_)
      if (sum.name == name) return void(sum.value += value);
    sums_.push_back({name, value});
  }

  std::vector<Metric> sums_;
};

}  // namespace

Trainer::Trainer(TrainTask& task, const TrainConfig& config, const RunPaths& run,
                 const TrainerOptions& options)
    : task_(task),
      config_(config),
      group_(options.group),
      parameters_(task.module()),
      optimizer_(parameters_, config.optimizer, adamw_options(config),
                 [&](const std::string& name) { return task.is_hidden_matrix(name); }),
      average_(parameters_.values()),
      plateau_(config.plateau),
      checkpoints_(run.checkpoints(task.stage()), config.keep_last),
      pictures_(run.samples() / task.stage()),
      throughput_(task.flops_per_sample(),
                  matrix_rate_of_all(*group_, options.device, config.precision)) {
  if (group_->is_first()) {
    make_directories(pictures_);
    resume();
    log_ = std::make_unique<MetricLog>(run.root, task.stage(), state_.step);
  }
  share_state();
  loader_ = make_loader(options);
}

/// This rank's part of every global batch: neighbours in it, as many as the other ranks have or one
/// more.
std::unique_ptr<BatchLoader> Trainer::make_loader(const TrainerOptions& options) {
  const int64_t batch_size = config_.batch_size;
  const int64_t begin = batch_size * group_->rank() / group_->world();
  const int64_t size = batch_size * (group_->rank() + 1) / group_->world() - begin;
  if (batch_size < group_->world())
    throw Error("{}.train.batch_size: found {}, expected at least one sample for each of {} ranks",
                task_.stage(), batch_size, group_->world());
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
  const auto begin = Clock::now();
  const double waited_s = loader_->wait_s();
  const double learning_rate = scheduled_learning_rate(config_, state_.step) * plateau_.factor();

  const Batch batch = loader_->next();
  const BatchTotals totals = count(batch);
  const int64_t micro_batch_size =
      config_.micro_batch_size > 0 ? config_.micro_batch_size : batch.size();

  parameters_.zero_gradients();
  StepLosses losses;
  for (int64_t first = 0; first < batch.size(); first += micro_batch_size) {
    const Batch micro_batch = batch.slice(first, first + micro_batch_size);
    const TaskLoss loss = task_.loss(micro_batch, totals, state_.step);
    loss.total.backward();
    losses.add(loss);
  }
  group_->sum(parameters_.gradients());
  stop_ = losses.sum_over(*group_, parameters_.gradients().device(), stop.requested());

  const double norm = gradient_norm(parameters_.gradients());
  if (losses.non_finite() == nullptr && std::isfinite(norm)) {
    if (config_.clip_norm > 0 && norm > config_.clip_norm)
      parameters_.gradients().mul_(config_.clip_norm / norm);
    optimizer_.step(parameters_.gradients(), learning_rate);
    ++state_.updates;
    if (state_.updates % config_.average_every == 0)
      average_.update(parameters_.values(), config_.average_decay);
    record(losses.sums(), norm);
  } else {
    skip(losses.non_finite());
  }
  ++state_.step;
  score_.reset();
  throughput_.add_step(config_.batch_size, seconds_since(begin), loader_->wait_s() - waited_s);
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
  const std::vector<Metric> timings = {
      {"step_ms", speed.step_ms, "{:.0f} ms"},
      {"samples_per_s", speed.samples_per_s, "{:.1f} img/s"},
      {"gflops", speed.flops_per_s / 1e9, "{:.1f} GFLOP/s"},
      {"utilisation", 100 * speed.utilisation, "{:.1f}% MFU"},
      {"data_wait", 100 * speed.data_wait_fraction, "data {:.1f}%"}};
  log_->write(state_.step, metrics, timings);
  state_.since_log.clear();
}

void Trainer::evaluate() {
  if (group_->is_first()) {
    const auto begin = Clock::now();
    const FlatParameters::BoundValues averaged(parameters_, average_.values());
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
  if (!group_->is_first()) return;
  const FlatParameters::BoundValues averaged(parameters_, average_.values());
  const torch::NoGradGuard no_grad;
  for (const auto& [name, picture] : task_.pictures(state_.step)) {
    const std::string png = encode_picture(picture, PictureFormat::kPng);
    log_->picture(state_.step, name, png);
    write_file_atomically(pictures_ / fmt::format("{}-{:08d}.png", name, state_.step), png);
  }
}

void Trainer::save() {
  saved_step_ = state_.step;
  if (!group_->is_first()) return;
  log_->sync();  // a run that goes on from this checkpoint finds its lines
  CheckpointContent content;
  content.step = state_.step;
  content.tensors[kWeightsTensors] = on_host(parameters_.named_views(parameters_.values()));
  content.tensors[kAverageTensors] = on_host(parameters_.named_views(average_.values()));
  content.tensors[kFirstMomentTensors] =
      on_host(parameters_.named_views(optimizer_.first_moment()));
  content.tensors[kSecondMomentTensors] =
      on_host(parameters_.named_views(optimizer_.second_moment()));
  content.files[kTrainerFile] = state_.to_json();
  task_.add_to_checkpoint(content);
  checkpoints_.save(content, score_);
}

void Trainer::resume() {
  const std::optional<CheckpointContent> content = checkpoints_.load_newest();
  if (content) restore(*content);
}

void Trainer::restore(const CheckpointContent& content) {
  task_.check_checkpoint(content);
  state_ = TrainerState::from_json(content.files.at(kTrainerFile), task_.stage() + " checkpoint");
  const auto fill = [&](const char* name, const at::Tensor& flat) {
    const FlatParameters::BoundValues bound(parameters_,
                                            flat);  // copies in place: `flat` itself is filled
    load_weights(task_.module(), content.tensors.at(name),
                 fmt::format("{}.safetensors of {}", name, checkpoints_.folder().string()));
  };
  fill(kWeightsTensors, parameters_.values());
  fill(kAverageTensors, average_.values());
  fill(kFirstMomentTensors, optimizer_.first_moment());
  fill(kSecondMomentTensors, optimizer_.second_moment());
  saved_step_ = state_.step;
  log_info("{}: going on from step {} of {}", task_.stage(), state_.step, config_.steps);
}

/// Begins with the first rank's state on every rank: that of its checkpoint, or its initial
/// weights.
void Trainer::share_state() {
  for (const at::Tensor& flat : {parameters_.values(), average_.values(), optimizer_.first_moment(),
                                 optimizer_.second_moment()})
    group_->broadcast(flat);
  state_ = TrainerState::from_json(group_->broadcast(state_.to_json()), task_.stage());
  plateau_ = PlateauCuts(config_.plateau, state_.plateau);
  optimizer_.set_updates(state_.updates);
}

}  // namespace dalle
