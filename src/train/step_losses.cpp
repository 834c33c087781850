#include "train/step_losses.h"

#include <cmath>

#include <torch/types.h>

namespace dalle {

void StepLosses::add(const TaskLoss& loss) {
  // They stay on the device: reading them here would wait for each micro-batch's backward pass.
  const auto value_of = [&](const at::Tensor& value) {
    return value.detach().to(loss.total.device(), torch::kDouble);
  };
  std::vector<at::Tensor> values{value_of(loss.total)};
  names_ = {"loss"};
  for (const auto& [name, value] : loss.parts) {
    values.push_back(value_of(value));
    names_.push_back("loss/" + name);
  }
  sum_.add(torch::stack(values));
}

StepVotes StepLosses::sum_over(ProcessGroup& group, c10::Device device, bool bitwise,
                               const StepVotes& own) {
  const auto votes = torch::tensor({own.stop ? 1.0 : 0.0, own.save ? 1.0 : 0.0,
                                    own.abandon ? 1.0 : 0.0, own.weights_changed ? 1.0 : 0.0},
                                   torch::kDouble);
  auto values = torch::cat({sum_.total().to(device), votes.to(device)});
  sum_over_ranks(group, values, bitwise);
  values = values.cpu();
  const double* value = values.const_data_ptr<double>();
  for (const std::string& name : names_) sums_.push_back({name, *value++});
  return {.stop = value[0] > 0,
          .save = value[1] > 0,
          .abandon = value[2] > 0,
          .weights_changed = value[3] > 0};
}

const Metric* StepLosses::non_finite() const {
  for (const Metric& sum : sums_)
    if (!std::isfinite(sum.value)) return &sum;
  return nullptr;
}

}  // namespace dalle
