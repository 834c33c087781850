#include "dalle/optim/optimizer.h"

#include "dalle/optim/muon.h"

namespace dalle {
namespace {

using Slices = std::vector<FlatParameters::Slice>;

Slices choose(const FlatParameters& parameters, OptimizerKind kind,
              const std::function<bool(const std::string&)>& is_hidden_matrix) {
  Slices chosen;
  if (kind == OptimizerKind::kAdamW) return chosen;
  for (const FlatParameters::Slice& slice : parameters.slices())
    if (slice.shape.size() >= 2 && is_hidden_matrix(slice.name)) chosen.push_back(slice);
  return chosen;
}

/// What of the flat buffer lies outside `slices`, which are in its order.
std::vector<AdamW::Span> spans_without(const Slices& slices, int64_t size) {
  std::vector<AdamW::Span> spans;
  int64_t begin = 0;
  for (const FlatParameters::Slice& slice : slices) {
    if (slice.offset > begin) spans.push_back({begin, slice.offset - begin});
    begin = slice.offset + slice.size;
  }
  if (size > begin) spans.push_back({begin, size - begin});
  return spans;
}

}  // namespace

Optimizer::Optimizer(const FlatParameters& parameters, OptimizerKind kind,
                     const AdamWOptions& options,
                     const std::function<bool(const std::string& name)>& is_hidden_matrix)
    : parameters_(parameters),
      options_(options),
      matrices_(choose(parameters, kind, is_hidden_matrix)),
      adamw_(parameters.values(), options, spans_without(matrices_, parameters.values().numel())) {}

void Optimizer::step(const at::Tensor& gradients, double learning_rate) {
  adamw_.step(gradients, learning_rate);
  for (const FlatParameters::Slice& matrix : matrices_)
    muon_step(matrix.view_of(parameters_.values()), matrix.view_of(gradients),
              matrix.view_of(first_moment()), learning_rate,
              {.weight_decay = options_.weight_decay});
}

}  // namespace dalle
