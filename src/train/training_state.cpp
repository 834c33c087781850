#include "train/training_state.h"

#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "checkpoint/checkpoint_files.h"
#include "core/error.h"
#include "tensor/named_tensors.h"

namespace dalle {
namespace {

AdamWOptions adamw_options(const TrainConfig& config) {
  return {.beta1 = config.beta1,
          .beta2 = config.beta2,
          .epsilon = config.epsilon,
          .weight_decay = config.weight_decay};
}

}  // namespace

TrainingState::TrainingState(torch::nn::Module& module, const TrainConfig& config,
                             const DistributedConfig& distributed,
                             const Optimizer::UsesMuon& uses_muon, const Optimizer::Decays& decays,
                             ProcessGroup& group)
    : module_(module),
      config_(config),
      distributed_(distributed),
      group_(group),
      parameters_(module, group.world_size()),
      reducer_(make_gradient_reducer(parameters_, group, distributed)),
      optimizer_(parameters_, config.optimizer, adamw_options(config), uses_muon, reducer_->owned(),
                 decays),
      ema_(parameters_.values(), reducer_->owned()) {
  ema_.assign(parameters_.values().detach());
}

void TrainingState::update(double learning_rate, double gradient_norm,
                           const std::function<void()>& after_update) {
  if (distributed_.check_replicas_every > 0 &&
      (updates() + 1) % distributed_.check_replicas_every == 0)
    check_replicas(parameters_, group_);
  if (config_.max_grad_norm > 0 && gradient_norm > config_.max_grad_norm)
    parameters_.gradients().mul_(config_.max_grad_norm / gradient_norm);
  optimizer_.step(parameters_.gradients(), learning_rate);
  reducer_->all_gather_owned(parameters_.values());
  after_update();
  if (checks_owned_weights()) checksum_.set(parameters_);
  if (updates() % config_.ema_every == 0) ema_.lerp(parameters_.values(), 1 - config_.ema_decay);
}

std::string TrainingState::non_finite_tensor() const {
  if (const auto name = parameters_.first_non_finite(parameters_.values()); !name.empty())
    return fmt::format("the weight {} is not finite", name);
  if (const auto name = parameters_.first_non_finite(parameters_.gradients()); !name.empty())
    return fmt::format("the gradient of {} is not finite", name);
  return "";
}

std::string TrainingState::changed_parameter() const {
  return checks_owned_weights() ? checksum_.changed_parameter(parameters_) : "";
}

void TrainingState::throw_weight_corruption(const std::string& changed) const {
  const std::vector<std::string> found = group_.all_gather_strings(changed);
  for (size_t rank = 0; rank < found.size(); ++rank)
    if (!found[rank].empty())
      throw Error(
          "the weights of rank {} were corrupted between two updates, in {}; the likely cause is "
          "faulty memory or a faulty processor; exclude that machine and resume from the last "
          "checkpoint",
          rank, found[rank]);
}

bool TrainingState::checks_owned_weights() const {
  return distributed_.check_replicas_every > 0 && reducer_->is_sharded();
}

/// What the ranks' states hold of a flat buffer [P], complete on every rank: in the memory of the
/// gradient, which the next step zeroes. Valid until the next call.
at::Tensor TrainingState::gathered(const std::vector<FlatState*>& states) {
  const at::Tensor& flat = parameters_.gradients();
  flat.zero_();
  for (const FlatState* state : states) state->copy_to(flat);
  reducer_->all_gather_owned(flat);
  return flat;
}

FlatParameters::BoundValues TrainingState::bind_ema() {
  return {parameters_, gathered({&ema_})};
}

std::set<std::string> TrainingState::tensor_names() {
  return {kWeightsTensors, kEmaTensors, kFirstMomentTensors, kSecondMomentTensors};
}

void TrainingState::save_into(CheckpointContent& content,
                              const std::function<bool(int64_t part)>& is_own) {
  const auto add = [&](int64_t part, const char* name, const at::Tensor& flat) {
    if (is_own(part))
      content.tensors[name] = parameters_.named_views(
          flat.detach().to(torch::kCPU, flat.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
  };
  add(0, kWeightsTensors, parameters_.values());
  add(1, kEmaTensors, gathered({&ema_}));
  add(2, kFirstMomentTensors, gathered(optimizer_.first_moment()));
  add(3, kSecondMomentTensors, gathered(optimizer_.second_moment()));
}

bool TrainingState::restore(const std::optional<std::filesystem::path>& checkpoint,
                            int64_t updates) {
  const auto share = [&](const char* name, const at::Tensor& flat) {
    if (checkpoint) load(*checkpoint, name, flat);
    group_.broadcast(flat);
  };
  const auto restore_states = [&](const char* name, const std::vector<FlatState*>& states) {
    share(name, parameters_.gradients());
    for (FlatState* state : states) state->assign(parameters_.gradients());
  };
  share(kWeightsTensors, parameters_.values());
  check_replicas(parameters_, group_);
  if (checks_owned_weights()) checksum_.set(parameters_);
  const bool is_resumed = group_.any(checkpoint.has_value());
  if (is_resumed) {
    restore_states(kEmaTensors, {&ema_});
    restore_states(kFirstMomentTensors, optimizer_.first_moment());
    restore_states(kSecondMomentTensors, optimizer_.second_moment());
  } else {
    ema_.assign(parameters_.values());
  }
  optimizer_.set_updates(updates);
  return is_resumed;
}

void TrainingState::load(const std::filesystem::path& checkpoint, const char* name,
                         const at::Tensor& flat) {
  // What is loaded is copied into the bound tensors: `flat` itself is filled.
  const FlatParameters::BoundValues bound(parameters_, flat);
  load_weights(module_, read_tensors(checkpoint, name), tensors_file(checkpoint, name).string());
}

}  // namespace dalle
