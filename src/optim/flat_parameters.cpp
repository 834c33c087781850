#include "optim/flat_parameters.h"

#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/error.h"
#include "optim/gradient_norm.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

constexpr int64_t kAlignment = 64;  // bytes: a cache line, and the widest vector register

}  // namespace

at::Tensor FlatParameters::Slice::view_of(const at::Tensor& flat) const {
  return flat.narrow(0, offset, size).view(shape);
}

FlatParameters::FlatParameters(torch::nn::Module& module, int64_t parts) {
  int64_t offset = 0;
  for (const auto& item : module.named_parameters()) {
    const at::Tensor& parameter = item.value();
    if (!parameters_.empty() && (parameter.dtype() != parameters_.front().dtype() ||
                                 parameter.device() != parameters_.front().device()))
      throw Error("the type or device of {} differs from that of {}", item.key(),
                  slices_.front().name);
    slices_.push_back({item.key(), offset, parameter.sizes().vec(), parameter.numel()});
    parameters_.push_back(parameter);
    offset +=
        round_up(parameter.numel(), kAlignment / static_cast<int64_t>(parameter.element_size()));
  }
  if (parameters_.empty()) throw Error("the module has no parameters to train");

  const torch::NoGradGuard no_grad;
  const auto options = parameters_.front().options().requires_grad(false);
  const int64_t size = round_up(offset, parts * kNormBlock);
  values_ = torch::zeros({size}, options);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor value = slices_[i].view_of(values_);
    value.copy_(parameters_[i]);
    parameters_[i].set_data(value);
  }
  // The module's own memory is free only now, so gradients must not be allocated earlier.
  gradients_ = torch::zeros({size}, options);
  for (size_t i = 0; i < parameters_.size(); ++i)
    parameters_[i].mutable_grad() = slices_[i].view_of(gradients_);
}

void FlatParameters::zero_gradients() {
  gradients_.zero_();
}

std::vector<std::pair<std::string, at::Tensor>> FlatParameters::named_views(
    const at::Tensor& flat) const {
  DALLE_CHECK(flat.sizes() == values_.sizes());
  std::vector<std::pair<std::string, at::Tensor>> views;
  for (const Slice& slice : slices_) views.emplace_back(slice.name, slice.view_of(flat));
  return views;
}

std::string FlatParameters::first_non_finite(const at::Tensor& flat) const {
  for (const auto& [name, view] : named_views(flat))
    if (!at::isfinite(view).all().item<bool>()) return name;
  return "";
}

void FlatParameters::bind(const at::Tensor& values) {
  // set_data, unlike assignment, changes every handle of the parameter, including the module's
  // members.
  for (size_t i = 0; i < parameters_.size(); ++i)
    parameters_[i].set_data(slices_[i].view_of(values));
}

FlatParameters::BoundValues::BoundValues(FlatParameters& parameters, const at::Tensor& values)
    : parameters_(parameters) {
  DALLE_CHECK(values.sizes() == parameters.values().sizes());
  parameters_.bind(values);
}

FlatParameters::BoundValues::~BoundValues() {
  parameters_.bind(parameters_.values_);
}

}  // namespace dalle
