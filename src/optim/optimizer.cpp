#include "optim/optimizer.h"

#include <algorithm>

#include "core/error.h"
#include "optim/muon.h"

namespace dalle {
namespace {

using Ranges = std::vector<FlatRange>;
using Slices = std::vector<FlatParameters::Slice>;

Slices muon_matrices(const FlatParameters& parameters, OptimizerKind kind,
                     const Optimizer::UsesMuon& uses_muon) {
  Slices chosen;
  if (kind == OptimizerKind::kAdamW) return chosen;
  for (const FlatParameters::Slice& slice : parameters.slices())
    if (slice.shape.size() >= 2 && uses_muon(slice.name)) chosen.push_back(slice);
  return chosen;
}

Ranges ranges_of(const Slices& slices) {
  Ranges ranges;
  for (const FlatParameters::Slice& slice : slices) ranges.push_back({slice.offset, slice.size});
  return ranges;
}

Ranges undecayed_ranges(const FlatParameters& parameters, const Optimizer::Decays& decays) {
  Slices chosen;
  for (const FlatParameters::Slice& slice : parameters.slices())
    if (!decays(slice.name)) chosen.push_back(slice);
  return ranges_of(chosen);
}

/// The parts of `ranges` outside `excluded`, which are in the order of the buffer.
Ranges without(const Ranges& ranges, const Ranges& excluded) {
  Ranges rest;
  for (const FlatRange& range : ranges) {
    int64_t begin = range.begin;
    for (const FlatRange& gap : excluded) {
      const int64_t end = std::min(gap.begin, range.end());
      if (end > begin) rest.push_back({begin, end - begin});
      begin = std::max(begin, gap.end());
    }
    if (range.end() > begin) rest.push_back({begin, range.end() - begin});
  }
  return rest;
}

AdamWOptions without_decay(AdamWOptions options) {
  options.weight_decay = 0;
  return options;
}

}  // namespace

Optimizer::Optimizer(const FlatParameters& parameters, OptimizerKind kind,
                     const AdamWOptions& options, const UsesMuon& uses_muon,
                     const std::vector<FlatRange>& owned, const Decays& decays)
    : parameters_(parameters),
      options_(options),
      matrices_(muon_matrices(parameters, kind, uses_muon)),
      momentum_(parameters.values(), ranges_of(matrices_)),
      adamw_(parameters.values(), options,
             without(without(owned, ranges_of(matrices_)), undecayed_ranges(parameters, decays))),
      undecayed_(parameters.values(), without_decay(options),
                 without(without(owned, ranges_of(matrices_)), adamw_.first_moment().ranges())) {
  DALLE_CHECK(kind == OptimizerKind::kAdamW || owned == all_of(parameters.values()));
}

void Optimizer::step(const at::Tensor& gradients, double learning_rate) {
  adamw_.step(gradients, learning_rate);
  undecayed_.step(gradients, learning_rate);
  for (size_t i = 0; i < matrices_.size(); ++i)
    muon_step(matrices_[i].view_of(parameters_.values()), matrices_[i].view_of(gradients),
              momentum_.parts()[i].view(matrices_[i].shape), learning_rate,
              {.weight_decay = options_.weight_decay});
}

}  // namespace dalle
