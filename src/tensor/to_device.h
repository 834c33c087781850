#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace dalle {

/// The tensor on `device`; itself if it is there already.
///
/// A copy from the host to a GPU does not make the host wait: it reads pinned memory, which the
/// tensor is copied to unless it is in it. The tensor may be destroyed at once, because LibTorch
/// reuses pinned memory only after the copies from it, but pinned memory must not be written to
/// before the GPU has used the result.
inline at::Tensor to_device(const at::Tensor& tensor, c10::Device device) {
  if (!tensor.is_cpu() || !device.is_cuda()) return tensor.to(device);
  return tensor.pin_memory().to(device, tensor.scalar_type(), /*non_blocking=*/true);
}

}  // namespace dalle
