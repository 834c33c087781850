#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/optim/adamw.h"
#include "dalle/optim/flat_parameters.h"

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
  /// @param parameters        must outlive this object
  /// @param is_hidden_matrix  which parameters Muon updates, by name; asked for kMuon alone
  Optimizer(const FlatParameters& parameters, OptimizerKind kind, const AdamWOptions& options,
            const std::function<bool(const std::string& name)>& is_hidden_matrix);

  /// @param gradients  [P] float32, finite
  void step(const at::Tensor& gradients, double learning_rate);

  /// Updates made so far.
  int64_t updates() const { return adamw_.updates(); }
  void set_updates(int64_t updates) { adamw_.set_updates(updates); }

  /// [P] float32. Of Muon's matrices: the momentum, and zeros.
  const at::Tensor& first_moment() const { return adamw_.first_moment(); }
  const at::Tensor& second_moment() const { return adamw_.second_moment(); }

 private:
  const FlatParameters& parameters_;
  AdamWOptions options_;
  std::vector<FlatParameters::Slice> matrices_;  ///< Muon's
  AdamW adamw_;
};

}  // namespace dalle
