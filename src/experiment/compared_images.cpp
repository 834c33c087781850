#include "experiment/compared_images.h"

#include <algorithm>
#include <cstdint>

#include <torch/types.h>

#include "core/error.h"
#include "core/progress.h"

namespace dalle {

void add_images(FeatureSet& set, const std::vector<at::Tensor>& images, c10::Device device,
                const std::string& what, const CheckStop& check_stop) {
  constexpr size_t kBatch = 32;
  Progress progress(what, static_cast<int64_t>(images.size()));
  for (size_t begin = 0; begin < images.size(); begin += kBatch) {
    check_stop();
    const size_t count = std::min(kBatch, images.size() - begin);
    set.add(at::stack(at::TensorList(images).slice(begin, count)).to(device));
    progress.update(static_cast<int64_t>(begin + count));
  }
}

ComparedImages compare_images(EvaluatedModel& model, const EvaluationData& data,
                              ImageGenerator& generator, const std::vector<FeatureKind>& kinds,
                              const std::string& suite, const CheckStop& check_stop) {
  warn_of_untrained_guidance(model.config, model.config.sample);
  const c10::Device device = model.vae->parameters().front().device();
  ComparedImages compared{.validation = FeatureSet(kinds),
                          .generated = FeatureSet(kinds),
                          .captions = {},
                          .images = {}};
  data.for_each_batch(
      suite + ": validation images", check_stop,
      [&](const Batch& batch) {
        compared.validation.add(batch.images.to(device));
        compared.captions.insert(compared.captions.end(), batch.texts.begin(), batch.texts.end());
      },
      data.images_to_generate());
  if (compared.validation.size() < kMinComparedImages)
    throw Error(
        "--suite {}: {} of the first {} validation images can be used, expected at least {}", suite,
        compared.validation.size(), data.images_to_generate(), kMinComparedImages);
  compared.images = generator.images(compared.captions, suite, check_stop);
  add_images(compared.generated, compared.images, device, suite + ": generated images", check_stop);
  return compared;
}

}  // namespace dalle
