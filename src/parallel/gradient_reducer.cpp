#include "parallel/gradient_reducer.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <utility>

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seconds.h"
#include "optim/gradient_norm.h"
#include "parallel/tree_sum.h"
#include "tensor/precision.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

using Clock = std::chrono::steady_clock;

/// Calls a function whenever backward has added to a parameter's gradient.
struct GradientHook : torch::autograd::PostAccumulateGradHook {
  explicit GradientHook(std::function<void()> function) : call(std::move(function)) {}
  void operator()(const torch::autograd::Variable&) override { call(); }
  std::function<void()> call;
};

/// Sends each bucket of the gradient as soon as the last backward pass of the step has completed
/// it, from the end of the buffer to its beginning: the order in which backward completes them.
class OverlappedReducer : public GradientReducer {
 public:
  OverlappedReducer(FlatParameters& parameters, ProcessGroup& group,
                    const DistributedConfig& config)
      : GradientReducer(parameters, group, config), reduce_type_(config.reduce_dtype) {
    if (group.world_size() == 1) return;
    parameters_of_.resize(layout_.buckets().size());
    for (size_t i = 0; i < parameters.slices().size(); ++i) {
      std::vector<size_t> buckets = buckets_of(parameters.slices()[i]);
      for (const size_t bucket : buckets) ++parameters_of_[bucket];
      torch::autograd::impl::set_post_acc_grad_hooks(
          parameters.parameters()[i],
          std::make_unique<GradientHook>([this, buckets] { note_complete(buckets); }));
    }
  }

  ~OverlappedReducer() override {
    for (const at::Tensor& parameter : parameters_.parameters())
      torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
  }

  void begin_step() override { parameters_.zero_gradients(); }

  void before_backward(bool is_last) override {
    armed_ = is_last && group_.world_size() > 1;
    missing_ = parameters_of_;
    unsent_ = layout_.buckets().size();
    busy_until_ = {};
  }

  void after_backward() override {}

  void finish() override {
    if (group_.world_size() == 1) return;
    armed_ = false;
    const auto begin = Clock::now();
    while (unsent_ > 0) send(--unsent_);  // of parameters that the loss does not depend on
    // On a GPU the last wait is the host's too: it is here that a lost rank is waited for.
    while (!sent_.empty()) receive_oldest(/*on_host=*/sent_.size() == 1);
    communication_.exposed_s += seconds_since(begin);
    ++communication_.steps;
  }

 private:
  struct Sent {
    Work pending;
    at::Tensor target;  ///< where the result belongs
    at::Tensor result;  ///< undefined if it is there already
  };

  std::vector<size_t> buckets_of(const FlatParameters::Slice& slice) const {
    std::vector<size_t> buckets;
    for (size_t i = 0; i < layout_.buckets().size(); ++i) {
      const FlatRange& bucket = layout_.buckets()[i];
      if (slice.offset < bucket.end() && bucket.begin < slice.offset + slice.size)
        buckets.push_back(i);
    }
    return buckets;
  }

  void note_complete(const std::vector<size_t>& buckets) {
    if (!armed_) return;
    for (const size_t bucket : buckets) --missing_[bucket];
    // All ranks must send in one order: a bucket waits for those after it.
    while (unsent_ > 0 && missing_[unsent_ - 1] <= 0) send(--unsent_);
  }

  void send(size_t index) {
    const FlatRange& bucket = layout_.buckets()[index];
    const auto values = bucket.slice(gradients());
    const bool is_bfloat16 = reduce_type_ == Precision::kBfloat16;
    if ((is_bfloat16 || sharded_) && sent_.size() == kMostInFlight) wait_for_room();
    const auto payload = is_bfloat16 ? values.to(torch::kBFloat16) : values;
    if (!sharded_)
      return void(sent_.push_back({.pending = group_.all_reduce_async(payload),
                                   .target = values,
                                   .result = is_bfloat16 ? payload : at::Tensor()}));
    const FlatRange part = layout_.part(bucket, group_.rank());
    const auto result = torch::empty({part.size}, payload.options());
    sent_.push_back({.pending = group_.reduce_scatter_async(result, payload),
                     .target = part.slice(gradients()),
                     .result = result});
  }

  void wait_for_room() {
    const auto begin = Clock::now();
    receive_oldest(/*on_host=*/false);
    if (armed_) communication_.exposed_s += seconds_since(begin);  // finish() counts its own time
  }

  /// Waits for the bucket that was sent first, puts it where it belongs, and frees its copies.
  void receive_oldest(bool on_host) {
    Sent& sent = sent_.front();
    sent.pending.wait(on_host);
    if (sent.result.defined()) sent.target.copy_(sent.result);
    const auto begin = std::max(sent.pending.begin(), busy_until_);
    busy_until_ = std::max(busy_until_, sent.pending.end());
    communication_.busy_s += in_seconds(std::max(busy_until_ - begin, Clock::duration::zero()));
    sent_.pop_front();
  }

  Precision reduce_type_;
  std::vector<int64_t> parameters_of_;  ///< how many parameters lie in a bucket, wholly or partly
  std::vector<int64_t> missing_;  ///< of them, those whose gradient backward has not added yet
  bool armed_ = false;
  size_t unsent_ = 0;      ///< buckets before this one are still to be sent
  std::deque<Sent> sent_;  ///< and not received yet
  Clock::time_point busy_until_;
};

/// Adds up micro-batches and ranks in one binary tree over the micro-batch's number in the global
/// batch.
class ExactReducer : public GradientReducer {
 public:
  ExactReducer(FlatParameters& parameters, ProcessGroup& group, const DistributedConfig& config)
      : GradientReducer(parameters, group, config) {}

  void begin_step() override { tree_.clear(); }

  void before_backward(bool) override { parameters_.zero_gradients(); }

  void after_backward() override { tree_.add(gradients()); }

  void finish() override {
    const auto begin = Clock::now();
    gradients().copy_(tree_.total());
    for (const FlatRange& bucket : layout_.buckets())
      if (sharded_)
        reduce_scatter_in_tree(group_, bucket.slice(gradients()));
      else
        sum_in_tree(group_, bucket.slice(gradients()));
    ++communication_.steps;
    communication_.exposed_s += seconds_since(begin);
  }

 private:
  TreeSum tree_;
};

}  // namespace

GradientReducer::GradientReducer(FlatParameters& parameters, ProcessGroup& group,
                                 const DistributedConfig& config)
    : parameters_(parameters),
      group_(group),
      layout_(parameters.values().numel(), group.world_size(),
              std::max<int64_t>(1, static_cast<int64_t>(config.bucket_mb * 1e6 / sizeof(float))),
              kNormBlock),
      sharded_(config.shard_optimizer && group.world_size() > 1),
      owned_(sharded_ ? layout_.owned_by(group.rank()) : all_of(parameters.values())) {}

double GradientReducer::norm() const {
  auto sums =
      torch::zeros({gradients().numel() / kNormBlock}, gradients().options().dtype(torch::kDouble));
  for (const FlatRange& range : owned_)
    sums.narrow(0, range.begin / kNormBlock, range.size / kNormBlock)
        .copy_(block_square_sums(range.slice(gradients())));
  // Each block's sum comes from its owner; the others add zeros, which change no bit.
  if (sharded_) group_.all_reduce(sums);
  // The padding after the last parameter depends on the number of ranks: it is left out.
  const FlatParameters::Slice& last = parameters_.slices().back();
  return norm_of_blocks(
      sums.narrow(0, 0, round_up(last.offset + last.size, kNormBlock) / kNormBlock));
}

void GradientReducer::all_gather_owned(const at::Tensor& flat) const {
  if (!sharded_) return;
  for (const FlatRange& bucket : layout_.buckets())
    group_.all_gather(bucket.slice(flat), layout_.part(bucket, group_.rank()).slice(flat));
}

std::unique_ptr<GradientReducer> make_gradient_reducer(FlatParameters& parameters,
                                                       ProcessGroup& group,
                                                       const DistributedConfig& config) {
  if (config.bitwise) return std::make_unique<ExactReducer>(parameters, group, config);
  return std::make_unique<OverlappedReducer>(parameters, group, config);
}

}  // namespace dalle
