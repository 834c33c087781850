#include "sample/generate_images.h"

#include <utility>

#include "data/image/image.h"

namespace dalle {

std::vector<RgbImage> generate_images(DalleModel model, DiscreteVae vae, const at::Tensor& caption,
                                      const SamplingConfig& sampling,
                                      const GenerateOptions& options,
                                      const GenerateProgress& progress) {
  const at::Tensor codes =
      generate_codes(std::move(model), caption, sampling, options, progress);  // [n, h, w]
  std::vector<RgbImage> images;
  // One by one, because batches of different sizes may round differently.
  for (int64_t i = 0; i < options.count; ++i)
    images.push_back(tensor_to_image(vae->decode(codes.slice(0, i, i + 1))[0]));
  return images;
}

}  // namespace dalle
