#include "experiment/image_generator.h"

#include <algorithm>
#include <iterator>

#include "core/progress.h"
#include "data/image/image.h"
#include "sample/generate_images.h"

namespace dalle {

std::vector<at::Tensor> ImageGenerator::images(const std::vector<std::string>& captions,
                                               const std::string& what,
                                               const CheckStop& check_stop) {
  const TrainedDalle& dalle = model_.dalle.value();
  std::map<std::string, int64_t> occurrences;
  std::vector<std::pair<std::string, int64_t>> wanted, missing;
  for (const std::string& caption : captions) wanted.emplace_back(caption, occurrences[caption]++);
  std::ranges::copy_if(wanted, std::back_inserter(missing),
                       [&](const auto& key) { return !images_.contains(key); });
  std::vector<CaptionImages> requests;
  for (const auto& [caption, image] : missing)
    requests.push_back(
        {.caption = caption_tokens(dalle, caption), .first_image = image, .count = 1});
  Progress progress(what + ": image tokens",
                    static_cast<int64_t>(missing.size()) * dalle.config.layout().image_length());
  if (!missing.empty())
    generate_images(
        dalle.model, dalle.vae, requests, dalle.config.sample,
        {.seed = static_cast<uint64_t>(dalle.config.seed), .decode = dalle.config.sample},
        [&](size_t request, int64_t, const RgbImage& image) {
          images_[missing[request]] = image_to_tensor(image);
        },
        [&](int64_t done, int64_t) {
          check_stop();
          progress.update(done);
        });
  std::vector<at::Tensor> found;
  for (const auto& key : wanted) found.push_back(images_.at(key));
  return found;
}

}  // namespace dalle
