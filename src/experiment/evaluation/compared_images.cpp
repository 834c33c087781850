#include "experiment/evaluation/compared_images.h"

#include <cstdint>

#include <torch/types.h>

#include "core/error.h"
#include "data/image/image.h"
#include "sample/decode_image.h"
#include "tensor/device_of.h"

namespace dalle {

using nlohmann::ordered_json;

ordered_json feature_record(const std::vector<at::Tensor>& features) {
  ordered_json record = ordered_json::array();
  for (const at::Tensor& of_kind : features) record.push_back(tensor_record(of_kind));
  return record;
}

FeatureSet joined_features(const std::vector<ordered_json>& records) {
  std::vector<std::vector<at::Tensor>> parts(records.front().at("features").size());
  for (const ordered_json& record : records)
    for (size_t kind = 0; kind < parts.size(); ++kind)
      parts[kind].push_back(recorded_tensor(record.at("features").at(kind)));
  FeatureSet set;
  for (const auto& of_kind : parts) set.kinds.push_back(at::cat(of_kind));
  return set;
}

FeatureSet features_of_codes(const EvaluatedModel& model, const std::vector<at::Tensor>& codes,
                             const std::vector<FeatureKind>& kinds, const SuitePhase& phase,
                             ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  const ChunkedPhase chunked = phase.in_chunks(std::ssize(codes));
  return joined_features(work.records(chunked, [&](const Chunk& chunk) -> ordered_json {
    std::vector<at::Tensor> images;
    for (const at::Tensor& one : items_of(chunk, codes))
      images.push_back(image_to_tensor(decode_image(model.vae, one)));
    return {{"features", feature_record(features_of(kinds, torch::stack(images).to(device)))}};
  }));
}

ComparedImages compare_images(EvaluatedModel& model, const EvaluationData& data,
                              ImageGenerator& generator, const std::vector<FeatureKind>& kinds,
                              const std::string& suite, ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  const auto records = data.records(
      work, {suite, "validation images"},
      [&](const Batch& batch) -> ordered_json {
        return {{"features", feature_record(features_of(kinds, batch.images.to(device)))},
                {"captions", batch.texts}};
      },
      data.images_to_generate());
  ComparedImages compared;
  compared.validation = joined_features(records);
  compared.captions = joined<std::string>(records, "captions");
  if (compared.validation.size() < kMinComparedImages)
    throw Error(
        "--suite {}: {} of the first {} validation images can be used, expected at least {}", suite,
        compared.validation.size(), data.images_to_generate(), kMinComparedImages);
  compared.codes = generator.codes(compared.captions, suite);
  compared.generated =
      features_of_codes(model, compared.codes, kinds, {suite, "generated images"}, work);
  return compared;
}

}  // namespace dalle
