#include "optim/adamw.h"

#include <utility>

#include <ATen/ops/_fused_adamw.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {

AdamW::AdamW(at::Tensor values, const AdamWOptions& options, const std::vector<FlatRange>& ranges)
    : options_(options),
      values_(std::move(values)),
      first_moment_(values_, ranges),
      second_moment_(values_, ranges),
      updates_on_device_(torch::zeros({}, values_.options())) {}

void AdamW::step(const at::Tensor& gradients, double learning_rate) {
  DALLE_CHECK(gradients.sizes() == values_.sizes());
  const torch::NoGradGuard no_grad;
  const std::vector<FlatRange>& ranges = first_moment_.ranges();
  updates_on_device_.fill_(static_cast<double>(++updates_));
  if (ranges.empty()) return;
  at::_fused_adamw_(parts_of(values_, ranges), parts_of(gradients, ranges), first_moment_.parts(),
                    second_moment_.parts(), /*max_exp_avg_sqs=*/{},
                    std::vector<at::Tensor>(ranges.size(), updates_on_device_), learning_rate,
                    options_.beta1, options_.beta2, options_.weight_decay, options_.epsilon,
                    /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace dalle
