#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/core/flat_range.h"
#include "dalle/optim/adamw.h"
#include "dalle/optim/flat_parameters.h"
#include "dalle/optim/flat_state.h"

namespace dalle {

/// AdamW for every parameter; or Muon for the matrices of hidden layers, and AdamW for the rest
/// (embeddings, heads, gains and biases).
enum class OptimizerKind { kAdamW, kMuon };

constexpr auto enum_names(OptimizerKind) {
  return std::array{std::pair{OptimizerKind::kAdamW, std::string_view("adamw")},
                    std::pair{OptimizerKind::kMuon, std::string_view("muon")}};
}

/// The optimizer of a module's flat parameters, whatever its kind: one step, and one state to save.
class Optimizer {
 public:
  using IsHiddenMatrix = std::function<bool(const std::string& name)>;

  /// @param parameters        must outlive this object
  /// @param is_hidden_matrix  which parameters Muon updates, by name; asked for kMuon alone
  Optimizer(const FlatParameters& parameters, OptimizerKind kind, const AdamWOptions& options,
            const IsHiddenMatrix& is_hidden_matrix);

  /// @param owned  what of the weights is updated here, other ranks having the rest; all of it for
  ///               kMuon, which needs whole matrices
  Optimizer(const FlatParameters& parameters, OptimizerKind kind, const AdamWOptions& options,
            const IsHiddenMatrix& is_hidden_matrix, const std::vector<FlatRange>& owned);

  /// @param gradients  [P] float32, finite where they are owned
  void step(const at::Tensor& gradients, double learning_rate);

  /// Updates made so far.
  int64_t updates() const { return adamw_.updates(); }
  void set_updates(int64_t updates) { adamw_.set_updates(updates); }

  /// What is owned of the first moment, and of Muon's matrices the momentum; to be saved and
  /// restored with updates(), as the second moment, which Muon's matrices do not have.
  std::vector<FlatState*> first_moment() { return {&momentum_, &adamw_.first_moment()}; }
  std::vector<FlatState*> second_moment() { return {&adamw_.second_moment()}; }

 private:
  const FlatParameters& parameters_;
  AdamWOptions options_;
  std::vector<FlatParameters::Slice> matrices_;  ///< Muon's
  FlatState momentum_;                           ///< of the matrices
  AdamW adamw_;
};

}  // namespace dalle
