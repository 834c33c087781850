#pragma once

#include <utility>

#include <ATen/core/ivalue.h>

namespace dalle {

/// A value of any type in an AutogradContext's saved_data: keep_value(x), and then
/// kept_value<X>(saved_data["x"]).
template <typename T>
struct HeldValue : torch::CustomClassHolder {
  explicit HeldValue(T held) : value(std::move(held)) {}
  T value;
};

template <typename T>
at::IValue keep_value(T value) {
  return at::IValue::make_capsule(c10::make_intrusive<HeldValue<T>>(std::move(value)));
}

/// The value, which lives as long as `kept`.
template <typename T>
const T& kept_value(const at::IValue& kept) {
  return static_cast<const HeldValue<T>&>(*kept.toCapsule()).value;
}

}  // namespace dalle
