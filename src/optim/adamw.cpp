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
      updates_(torch::zeros({}, values_.options())) {}

void AdamW::step(const at::Tensor& gradients, double learning_rate) {
  DALLE_CHECK(gradients.sizes() == values_.sizes());
  const torch::NoGradGuard no_grad;
  const std::vector<FlatRange>& ranges = first_moment_.ranges();
  updates_ += 1;
  if (ranges.empty()) return;
  at::_fused_adamw_(parts_of(values_, ranges), parts_of(gradients, ranges), first_moment_.parts(),
                    second_moment_.parts(), /*max_exp_avg_sqs=*/{},
                    std::vector<at::Tensor>(ranges.size(), updates_), learning_rate, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
}

int64_t AdamW::updates() const {
  return static_cast<int64_t>(updates_.item<float>());
}

void AdamW::set_updates(int64_t updates) {
  updates_.fill_(static_cast<double>(updates));
}

}  // namespace dalle
