#include "sample/generate_images.h"

#include <utility>

#include "data/image/image.h"
#include "tensor/device_of.h"

namespace dalle {

RgbImage decode_image(DiscreteVae vae, const at::Tensor& codes) {
  const at::Device device = device_of(*vae);
  return tensor_to_image(vae->decode(codes.unsqueeze(0).to(device))[0]);
}

GenerateStatistics generate_images(DalleModel model, DiscreteVae vae,
                                   std::span<const CaptionImages> requests,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   const ImageDone& image_done, const GenerateProgress& progress) {
  return generate_codes(
      std::move(model), requests, sampling, options,
      [&](size_t request, int64_t image, const at::Tensor& codes) {
        image_done(request, image, decode_image(vae, codes));
      },
      progress);
}

}  // namespace dalle
