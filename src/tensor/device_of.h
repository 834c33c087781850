#pragma once

#include <c10/core/Device.h>
#include <torch/nn/module.h>

namespace dalle {

/// Where a module with parameters computes: all of them are on one device.
inline c10::Device device_of(const torch::nn::Module& module) {
  return module.parameters().front().device();
}

}  // namespace dalle
