#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/fields.h"
#include "optim/adamw.h"
#include "optim/flat_parameters.h"
#include "tensor/flat_range.h"
#include "tensor/flat_state.h"

namespace dalle {

/// AdamW for every parameter, or Muon for the matrices of hidden layers and AdamW for the rest
/// (embeddings, heads, gains and biases).
enum class OptimizerKind { kAdamW, kMuon };

constexpr auto enum_names(OptimizerKind) {
  return names_in_order<OptimizerKind>("adamw", "muon");
}

/// The optimizer of a module's flat parameters, of either kind.
class Optimizer {
 public:
  using UsesMuon = std::function<bool(const std::string& name)>;
  using Decays = std::function<bool(const std::string& name)>;

  /// @param parameters  must outlive this object
  /// @param uses_muon   which parameters Muon updates, by name; called only for kMuon
  /// @param owned       the parts of the weights that this rank updates; must be all of them for
  ///                    kMuon, which needs whole matrices
  /// @param decays      which of AdamW's parameters its weight decay applies to, by name
  Optimizer(
      const FlatParameters& parameters, OptimizerKind kind, const AdamWOptions& options,
      const UsesMuon& uses_muon, const std::vector<FlatRange>& owned,
      const Decays& decays = [](const std::string&) { return true; });

  /// @param gradients  [P] float32, finite in the owned ranges
  void step(const at::Tensor& gradients, double learning_rate);

  /// Number of updates so far.
  int64_t updates() const { return adamw_.updates(); }
  void set_updates(int64_t updates) {
    adamw_.set_updates(updates);
    undecayed_.set_updates(updates);
  }

  /// The owned parts of AdamW's moments and the momentum of Muon's matrices, which have no second
  /// moment. To be saved and restored with updates().
  std::vector<FlatState*> first_moment() {
    return {&momentum_, &adamw_.first_moment(), &undecayed_.first_moment()};
  }
  std::vector<FlatState*> second_moment() {
    return {&adamw_.second_moment(), &undecayed_.second_moment()};
  }

 private:
  const FlatParameters& parameters_;
  AdamWOptions options_;
  std::vector<FlatParameters::Slice> matrices_;  ///< updated by Muon
  FlatState momentum_;                           ///< of the matrices
  AdamW adamw_;
  AdamW undecayed_;  ///< for the parameters without weight decay
};

}  // namespace dalle
