#include "eval/token_scores.h"

#include <numbers>

#include <torch/types.h>

#include "core/error.h"

namespace dalle {

TokenScores score_tokens(const at::Tensor& states, const at::Tensor& head,
                         const at::Tensor& targets) {
  const auto logits = at::matmul(states.to(head.scalar_type()), head.t()).to(at::kFloat);  // [N, V]
  if (!logits.isfinite().all().item<bool>()) throw Error("the model's logits are not finite");
  const auto nats = -logits.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1);
  const auto own = logits.gather(1, targets.unsqueeze(1));  // [N, 1]
  return {.bits = nats.to(at::kCPU, at::kDouble) / std::numbers::ln2,
          .rank = logits.ge(own).sum(1).sub(1).cpu()};
}

SequenceScores score_sequence(const DalleModel& model, const at::Tensor& states,
                              const at::Tensor& caption, const at::Tensor& codes) {
  const auto parameters = model->named_parameters();
  const SequenceLayout& layout = model->layout();
  // Text state p predicts caption token p; the last one predicts nothing.
  const at::Tensor tokens = caption.masked_select(caption.ne(kPadToken));
  return {.text = score_tokens(states.narrow(0, 0, tokens.numel()), parameters["text_head.weight"],
                               tokens),
          .image = score_tokens(states.narrow(0, layout.text_length, layout.image_length()),
                                parameters["image_head.weight"], codes)};
}

}  // namespace dalle
