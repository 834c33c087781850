#include "train/step_losses.h"

#include <cmath>

#include <torch/types.h>

namespace dalle {

void StepLosses::add(const TaskLoss& loss) {
  std::vector<double> values{loss.total.item<double>()};
  names_ = {"loss"};
  for (const auto& [name, value] : loss.parts) {
    values.push_back(value.item<double>());
    names_.push_back("loss/" + name);
  }
  sum_.add(torch::tensor(values, torch::kDouble));
}

StepVotes StepLosses::sum_over(ProcessGroup& group, c10::Device device, bool bitwise,
                               const StepVotes& own) {
  const auto votes = torch::tensor(
      {own.stop ? 1.0 : 0.0, own.save ? 1.0 : 0.0, own.abandon ? 1.0 : 0.0, own.report ? 1.0 : 0.0},
      torch::kDouble);
  auto values = torch::cat({sum_.total(), votes}).to(device);
  if (bitwise)
    sum_in_tree(group, values);
  else
    group.all_reduce(values);
  values = values.cpu();
  const double* value = values.const_data_ptr<double>();
  for (const std::string& name : names_) sums_.push_back({name, *value++});
  return {
      .stop = value[0] > 0, .save = value[1] > 0, .abandon = value[2] > 0, .report = value[3] > 0};
}

const Metric* StepLosses::non_finite() const {
  for (const Metric& sum : sums_)
    if (!std::isfinite(sum.value)) return &sum;
  return nullptr;
}

}  // namespace dalle
