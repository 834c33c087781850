#include "sample/decode_image.h"

#include "data/image/image.h"
#include "tensor/device_of.h"

namespace dalle {

RgbImage decode_image(DiscreteVae vae, const at::Tensor& codes) {
  const at::Device device = device_of(*vae);
  return tensor_to_image(vae->decode(codes.unsqueeze(0).to(device))[0]);
}

}  // namespace dalle
