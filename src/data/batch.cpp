#include "data/batch.h"

#include <algorithm>

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include "core/error.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

/// Stacks one member of all samples; undefined if no sample has it.
at::Tensor stack_member(std::span<const Sample> samples, const char* name,
                        at::Tensor Sample::*member) {
  const at::Tensor& first = samples.front().*member;
  std::vector<at::Tensor> tensors;
  tensors.reserve(samples.size());
  for (const Sample& sample : samples) {
    const at::Tensor& tensor = sample.*member;
    const bool matches = tensor.defined() == first.defined() &&
                         (!first.defined() || (tensor.sizes() == first.sizes() &&
                                               tensor.scalar_type() == first.scalar_type()));
    if (!matches)
      throw Error("samples {} and {} cannot be stacked: {} is {} and {}", samples.front().position,
                  sample.position, name, describe_tensor(first), describe_tensor(tensor));
    tensors.push_back(tensor);
  }
  return first.defined() ? at::stack(tensors) : at::Tensor();
}

}  // namespace

Batch Batch::slice(int64_t begin, int64_t end) const {
  DALLE_CHECK(0 <= begin && begin <= end && end <= size());
  const auto rows = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.slice(0, begin, end) : at::Tensor();
  };
  return {.positions = {positions.begin() + begin, positions.begin() + end},
          .images = rows(images),
          .codes = rows(codes),
          .captions = rows(captions),
          .texts = {texts.begin() + begin, texts.begin() + end}};
}

void Batch::pin() {
  for (at::Tensor* tensor : {&images, &codes, &captions})
    if (tensor->defined()) *tensor = tensor->pin_memory();
}

at::Tensor pad_caption(const std::vector<int64_t>& tokens, int64_t length) {
  at::Tensor caption = at::full({length}, kPadToken, at::kLong);
  const auto kept = std::min(static_cast<int64_t>(tokens.size()), length);
  std::copy_n(tokens.begin(), kept, caption.mutable_data_ptr<int64_t>());
  return caption;
}

Batch stack(std::span<const Sample> samples) {
  DALLE_CHECK(!samples.empty());
  Batch batch{.positions = {},
              .images = stack_member(samples, "image", &Sample::image),        // [B, 3, S, S]
              .codes = stack_member(samples, "codes", &Sample::codes),         // [B, N]
              .captions = stack_member(samples, "caption", &Sample::caption),  // [B, T]
              .texts = {}};
  for (const Sample& sample : samples) {
    batch.positions.push_back(sample.position);
    batch.texts.push_back(sample.text);
  }
  return batch;
}

}  // namespace dalle
