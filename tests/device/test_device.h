#pragma once

#include <cstdlib>

#include <c10/core/Device.h>

#include "dist/rank_info.h"
#include "experiment/torch_setup.h"

namespace dalle {

/// The device to test: the one that the environment variable DALLE_TEST_DEVICE names (auto, cpu,
/// cuda or cuda:N), by default the CPU. The first call sets up LibTorch as the tools do.
/// @throws dalle::Error as find_device() does
inline c10::Device test_device() {
  static const c10::Device device = [] {
    // Deterministic matrix products require it before the first product.
    ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    set_up_torch();
    return find_device(environment_variable("DALLE_TEST_DEVICE").value_or("cpu"));
  }();
  return device;
}

}  // namespace dalle
