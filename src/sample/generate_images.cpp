#include "sample/generate_images.h"

#include <utility>

#include "data/image/image.h"

namespace dalle {

GenerateStatistics generate_images(DalleModel model, DiscreteVae vae,
                                   std::span<const CaptionImages> requests,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   const ImageDone& image_done, const GenerateProgress& progress) {
  return generate_codes(
      std::move(model), requests, sampling, options,
      [&](size_t request, int64_t image, const at::Tensor& codes) {
        // One by one, because rounding may depend on the batch size.
        image_done(request, image, tensor_to_image(vae->decode(codes.unsqueeze(0))[0]));
      },
      progress);
}

}  // namespace dalle
