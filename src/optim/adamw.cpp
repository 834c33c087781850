#include "dalle/optim/adamw.h"

#include <utility>

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <torch/types.h>

#include "dalle/core/error.h"

namespace dalle {

AdamW::AdamW(at::Tensor values, const AdamWOptions& options)
    : AdamW(values, options, {{.begin = 0, .size = values.numel()}}) {}

AdamW::AdamW(at::Tensor values, const AdamWOptions& options, std::vector<Span> spans)
    : options_(options),
      spans_(std::move(spans)),
      values_(std::move(values)),
      first_moment_(torch::zeros_like(values_)),
      second_moment_(torch::zeros_like(values_)),
      updates_(torch::zeros({}, values_.options())) {}

void AdamW::step(const at::Tensor& gradients, double learning_rate) {
  DALLE_CHECK(gradients.sizes() == values_.sizes());
  const torch::NoGradGuard no_grad;
  updates_ += 1;
  at::_fused_adamw_(parts_of(values_), parts_of(gradients), parts_of(first_moment_),
                    parts_of(second_moment_), /*max_exp_avg_sqs=*/{},
                    std::vector<at::Tensor>(spans_.size(), updates_), learning_rate, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
}

std::vector<at::Tensor> AdamW::parts_of(const at::Tensor& flat) const {
  std::vector<at::Tensor> parts;
  for (const Span& span : spans_) parts.push_back(flat.narrow(0, span.begin, span.size));
  return parts;
}

int64_t AdamW::updates() const {
  return static_cast<int64_t>(updates_.item<float>());
}

void AdamW::set_updates(int64_t updates) {
  updates_.fill_(static_cast<double>(updates));
}

double gradient_norm(const at::Tensor& gradients) {
  return at::linalg_vector_norm(gradients, 2, std::nullopt, false, at::kDouble).item<double>();
}

}  // namespace dalle
