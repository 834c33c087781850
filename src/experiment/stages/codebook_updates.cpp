#include "experiment/stages/codebook_updates.h"

#include <algorithm>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"
#include "data/epoch_permutation.h"
#include "nn/vector_quantization.h"
#include "tensor/to_device.h"

namespace dalle {

CodebookUpdates::CodebookUpdates(const VqConfig& config, const at::Tensor& codebook, uint64_t seed)
    : config_(config), codebook_(codebook), seed_(seed) {
  const int64_t vocab_size = codebook.size(1);
  const auto options = codebook.options().requires_grad(false);
  // As if each code had been assigned its initial vector once per update.
  if (is_averaged()) average_ = torch::cat({torch::ones({vocab_size, 1}, options), codes()}, 1);
  if (revives()) usage_ = torch::zeros({vocab_size}, options);
}

void CodebookUpdates::add(const BottleneckOutput& passed, int64_t position,
                          const LossContext& context) {
  if (!is_averaged() && !revives()) return;
  if (step_ != context.step) {  // what is left of a step that was skipped is dropped
    step_ = context.step;
    sums_.clear();
    candidates_ = at::Tensor();
  }
  sums_.add(code_sums(passed.vectors.flatten(0, 2), passed.codes.flatten(), codebook_.size(1)));
  if (revives_in(step_)) add_candidates(passed, position, context);
}

/// The first K vectors of a random order of all vectors of the global batch: those that are in this
/// micro-batch.
void CodebookUpdates::add_candidates(const BottleneckOutput& passed, int64_t position,
                                     const LossContext& context) {
  const auto vectors = passed.vectors.flatten(0, 2);               // [b h w, D]
  const int64_t grid = vectors.size(0) / passed.codes.size(0);     // vectors of an image
  const int64_t begin = position % context.counts.samples * grid;  // number in the global batch
  const int64_t total = context.counts.samples * grid;
  const int64_t count = std::min(codebook_.size(1), total);
  const EpochPermutation order(
      derive_seed(seed_, SeedPurpose::kCodeRevival, static_cast<uint64_t>(context.step)), total);
  if (!candidates_.defined())
    candidates_ = torch::zeros({count, vectors.size(1)}, vectors.options());
  std::vector<int64_t> places, sources;
  for (int64_t place = 0; place < count; ++place) {
    const int64_t source = order.index(place) - begin;
    if (source < 0 || source >= vectors.size(0)) continue;
    places.push_back(place);
    sources.push_back(source);
  }
  const auto on_device = [&](const std::vector<int64_t>& indices) {
    return to_device(torch::tensor(indices, torch::kLong), vectors.device());
  };
  candidates_.index_copy_(0, on_device(places), vectors.index_select(0, on_device(sources)));
}

void CodebookUpdates::apply(const LossContext& context, bool bitwise) {
  const torch::NoGradGuard no_grad;
  if (is_averaged() || revives()) {
    DALLE_CHECK(step_ == context.step);
    const at::Tensor sums = sums_.total().clone();  // [K, 1 + D]
    sum_over_ranks(context.group, sums, bitwise);
    if (is_averaged())
      codes().copy_(update_code_averages(average_, sums, config_.decay, config_.epsilon));
    if (revives()) usage_ += sums.select(1, 0);
    if (revives_in(step_)) {
      context.group.all_reduce(candidates_);  // exact: each has one rank's number and zeros
      revive();
    }
  }
  if (config_.unit_norm) codes().div_(codes().norm(2, {1}, true));
}

/// Gives the codes that were hardly used the candidates' vectors, and the mean of the averaged
/// counts: such a code moves like one of average usage.
void CodebookUpdates::revive() {
  at::Tensor dead = usage_.lt(config_.revive_below * usage_.mean()).nonzero().flatten();
  dead = dead.narrow(0, 0, std::min(dead.size(0), candidates_.size(0)));
  const at::Tensor vectors = candidates_.narrow(0, 0, dead.size(0));  // [dead, D]
  codebook_.detach().flatten(1).index_copy_(1, dead, vectors.t());
  if (is_averaged()) {
    const auto count = average_.select(1, 0).mean().expand({dead.size(0), 1});  // [dead, 1]
    average_.index_copy_(0, dead, torch::cat({count, vectors * count}, 1));
  }
  usage_.zero_();
}

NamedTensors CodebookUpdates::state() const {
  NamedTensors state;
  if (is_averaged()) state.emplace_back("codebook.average", average_);
  if (revives()) state.emplace_back("codebook.usage", usage_);
  return state;
}

}  // namespace dalle
