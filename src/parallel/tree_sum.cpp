#include "parallel/tree_sum.h"

#include <bit>

#include <torch/types.h>

#include "core/error.h"
#include "tensor/round_up.h"

namespace dalle {

void TreeSum::clear() {
  for (Level& level : levels_) level.full = false;
}

void TreeSum::add(const at::Tensor& term) {
  const torch::NoGradGuard no_grad;
  at::Tensor carry = term;
  for (size_t n = 0;; ++n) {
    if (n == levels_.size()) levels_.push_back({.sum = torch::empty_like(term)});
    Level& level = levels_[n];
    level.full = !level.full;
    if (level.full) return void(level.sum.copy_(carry));
    carry = level.sum.add_(carry);
  }
}

at::Tensor TreeSum::total() {
  const torch::NoGradGuard no_grad;
  at::Tensor total;
  for (const Level& level : levels_)
    if (level.full) total = total.defined() ? level.sum + total : level.sum;
  if (!total.defined()) throw Error("cannot sum zero tensors");
  return total;
}

void reduce_scatter_in_tree(ProcessGroup& group, const at::Tensor& tensor) {
  const int64_t world = group.world_size();
  if (world == 1) return;
  DALLE_CHECK(std::has_single_bit(static_cast<uint64_t>(world)));
  const auto terms = torch::empty_like(tensor);
  group.all_to_all(terms, tensor);
  const auto rows = terms.view({world, -1});
  for (int64_t stride = 1; stride < world; stride *= 2)
    for (int64_t row = 0; row < world; row += 2 * stride) rows[row].add_(rows[row + stride]);
  tensor.view({world, -1})[group.rank()].copy_(rows[0]);
}

void sum_in_tree(ProcessGroup& group, const at::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  const int64_t world = group.world_size();
  if (world == 1) return;
  const int64_t part = round_up(tensor.numel(), world) / world;
  const bool even = part * world == tensor.numel();
  const auto padded = even ? tensor.view({-1}) : torch::zeros({part * world}, tensor.options());
  if (!even) padded.narrow(0, 0, tensor.numel()).copy_(tensor.view({-1}));
  reduce_scatter_in_tree(group, padded);
  group.all_gather(padded, padded.view({world, -1})[group.rank()]);
  if (!even) tensor.view({-1}).copy_(padded.narrow(0, 0, tensor.numel()));
}

void sum_over_ranks(ProcessGroup& group, const at::Tensor& tensor, bool bitwise) {
  if (bitwise)
    sum_in_tree(group, tensor);
  else
    group.all_reduce(tensor);
}

}  // namespace dalle
