#include "eval/token_scores.h"

#include <numbers>

#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

/// @param states   [N, width], of DalleModelImpl::hidden_states()
/// @param head     [V, width]
/// @param targets  [N] int64 in [0, V)
TokenScores score_tokens(const at::Tensor& states, const at::Tensor& head,
                         const at::Tensor& targets) {
  const auto logits = at::matmul(states.to(head.scalar_type()), head.t()).to(at::kFloat);  // [N, V]
  if (!logits.isfinite().all().item<bool>()) throw Error("the model's logits are not finite");
  const auto nats = -logits.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1);
  const auto own = logits.gather(1, targets.unsqueeze(1));  // [N, 1]
  return {.bits = nats.to(at::kCPU, at::kDouble) / std::numbers::ln2,
          .rank = logits.ge(own).sum(1).sub(1).cpu()};
}

}  // namespace

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

std::vector<double> image_log_likelihoods(DalleModel& model, const at::Tensor& codes,
                                          const std::vector<at::Tensor>& captions) {
  const at::Tensor head = model->named_parameters()["image_head.weight"];  // [K, width]
  const SequenceLayout& layout = model->layout();
  const auto count = static_cast<int64_t>(captions.size());
  const at::Tensor targets = codes.to(head.device());
  const at::Tensor states =
      model->hidden_states(torch::stack(captions).to(head.device()), targets.expand({count, -1}));
  std::vector<double> bits;
  for (int64_t i = 0; i < count; ++i) {  // one by one, because [C, N, K] logits may be large
    const at::Tensor own = states[i].narrow(0, layout.text_length, layout.image_length());
    bits.push_back(-score_tokens(own, head, targets).bits.sum().item<double>());
  }
  return bits;
}

}  // namespace dalle
