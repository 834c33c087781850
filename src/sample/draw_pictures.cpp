#include "dalle/sample/draw_pictures.h"

#include <utility>

#include "dalle/data/image.h"

namespace dalle {

std::vector<Picture> draw_pictures(DalleModel model, DiscreteVae vae, const at::Tensor& caption,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   const GenerateProgress& progress) {
  const at::Tensor codes =
      generate_codes(std::move(model), caption, sampling, options, progress);  // [n, h, w]
  std::vector<Picture> pictures;
  for (int64_t i = 0; i < options.count;
       ++i)  // one by one: a batch of another size may round differently
    pictures.push_back(tensor_to_picture(vae->decode(codes.slice(0, i, i + 1))[0]));
  return pictures;
}

}  // namespace dalle
