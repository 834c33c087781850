#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "data/image/image.h"
#include "eval/feature_distances.h"
#include "experiment/evaluation/compared_images.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "sample/decode_image.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxTrainingImages = 5000;
constexpr double kPercentile = 0.01;
constexpr size_t kDiverseCaptions = 32;
constexpr int64_t kImagesPerCaption = 4;

constexpr int64_t kNearestShown = 8;

/// What images are compared with the training images.
struct MemorizationSets {
  FeatureSet validation, generated, training;
  FeatureSet of_captions;  ///< kImagesPerCaption of each caption
};

/// The generated images that are nearest to a training image, nearest first.
ordered_json closest_of(const NearestNeighbors& nearest) {
  const at::Tensor order = nearest.distance.argsort(/*stable=*/true, /*dim=*/0, false);
  ordered_json closest = ordered_json::array();
  for (int64_t i = 0; i < std::min(order.numel(), kNearestShown); ++i) {
    const at::Tensor image = order[i];
    closest.push_back({{"image", image.item<int64_t>()},
                       {"candidate", nearest.index[image].item<int64_t>()},
                       {"distance", nearest.distance[image].item<double>()}});
  }
  return closest;
}

/// Adds these images and the training images.
/// @param closest    of closest_of()
/// @param positions  of the training images
void add_closest(SuiteResult& result, const std::string& space, const ordered_json& closest,
                 const std::vector<int64_t>& positions, const ComparedImages& compared,
                 const EvaluatedModel& model, const EvaluationData& data) {
  for (size_t i = 0; i < closest.size(); ++i) {
    const auto image = closest[i].at("image").get<size_t>();
    const int64_t position = positions[closest[i].at("candidate").get<size_t>()];
    const std::string stem = fmt::format("memorization-{}-{}", space, i + 1);
    const std::string generated = stem + ".png", training = stem + "-training.png";
    result.numbers["closest"].push_back({{"space", space},
                                         {"caption", compared.captions[image]},
                                         {"distance", closest[i].at("distance")},
                                         {"key", data.training_key(position)},
                                         {"generated", generated},
                                         {"training", training}});
    result.images[generated] = decode_image(model.vae, compared.codes[image]);
    result.images[training] =
        tensor_to_image(data.batch(position, position + 1, DataPart::kTraining).value().images[0]);
  }
}

/// How far images of one caption are from one another, and from those of other captions.
/// @param features  [C, kImagesPerCaption, D] of C captions
void write_diversity(ordered_json& numbers, const std::string& space, const at::Tensor& features) {
  const auto captions = static_cast<double>(features.size(0));
  const auto images = static_cast<double>(features.size(1));
  const at::Tensor flat = features.flatten(0, 1);
  const at::Tensor means = pair_distances(flat, flat)
                               .to(at::kDouble)
                               .view({features.size(0), features.size(1), features.size(0), -1})
                               .mean({1, 3});  // [C, C]
  const at::Tensor own = means.diagonal();
  // The distance of an image to itself does not count.
  numbers[space + "_same_caption"] = number_of(mean_interval(own * (images / (images - 1))));
  if (captions < 3) return;
  // A mean over pairs has twice the error of the mean over captions of their mean distances.
  const at::Tensor others = (means.sum(1) - own) / (captions - 1);
  numbers[space + "_other_captions"] = number_of(mean_interval(2 * others - others.mean()));
}

/// Each of the first captions that differ, kImagesPerCaption times.
std::vector<std::string> repeated_captions(const std::vector<std::string>& captions) {
  std::set<std::string> used;
  std::vector<std::string> repeated;
  for (const std::string& caption : captions)
    if (used.size() < kDiverseCaptions && used.insert(caption).second)
      repeated.insert(repeated.end(), kImagesPerCaption, caption);
  return repeated;
}

/// The numbers of a space, and the images that are closest in it.
ordered_json compare_in_space(const std::string& space, const MemorizationSets& sets, size_t kind) {
  const at::Tensor& candidates = sets.training.kinds[kind];
  const auto generated = nearest_neighbors(sets.generated.kinds[kind], candidates);
  const auto validation = nearest_neighbors(sets.validation.kinds[kind], candidates);
  const at::Tensor nearer = generated.distance < validation.distance.quantile(kPercentile);
  ordered_json numbers;
  numbers[space + "_nearer"] = number_of(wilson_interval(nearer));
  numbers[space + "_generated_distance"] = number_of(mean_interval(generated.distance));
  numbers[space + "_validation_distance"] = number_of(mean_interval(validation.distance));
  write_diversity(numbers, space,
                  sets.of_captions.kinds[kind].unflatten(0, {-1, kImagesPerCaption}));
  return {{"numbers", numbers}, {"closest", closest_of(generated)}};
}

}  // namespace

SuiteResult evaluate_memorization(EvaluatedModel& model, const EvaluationData& data,
                                  const SuiteInputs& inputs, ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  std::vector<FeatureKind> kinds = {{pixel_space()}, {dvae_space(model.vae)}};
  if (inputs.extractor.space) kinds.push_back({*inputs.extractor.space});
  const ComparedImages compared =
      compare_images(model, data, inputs.generator, kinds, "memorization", work);
  const auto training = data.records(
      work, {"memorization", "training images"},
      [&](const Batch& batch) -> ordered_json {
        return {{"features", feature_record(features_of(kinds, batch.images.to(device)))},
                {"positions", batch.positions}};
      },
      kMaxTrainingImages, DataPart::kTraining);
  const auto diverse = inputs.generator.codes(repeated_captions(compared.captions), "memorization");
  const MemorizationSets sets{
      .validation = compared.validation,
      .generated = compared.generated,
      .training = joined_features(training),
      .of_captions =
          features_of_codes(model, diverse, kinds, {"memorization", "images of captions"}, work)};
  const ChunkedPhase phase{.what = "memorization: distances",
                           .folder = "memorization/distances",
                           .items = std::ssize(kinds)};
  const auto compare = [&](const Chunk& chunk) {
    const auto kind = static_cast<size_t>(chunk.begin);
    return compare_in_space(kinds[kind].space.name, sets, kind);
  };
  const auto found = work.records(phase, compare);

  SuiteResult result;
  result.numbers = {{"images", sets.generated.size()},
                    {"training_images", sets.training.size()},
                    {"captions_compared", sets.of_captions.size() / kImagesPerCaption},
                    {"images_per_caption", kImagesPerCaption}};
  result.numbers["closest"] = ordered_json::array();
  const auto positions = joined<int64_t>(training, "positions");
  for (size_t i = 0; i < kinds.size(); ++i) {
    result.numbers.update(found[i].at("numbers"));
    add_closest(result, kinds[i].space.name, found[i].at("closest"), positions, compared, model,
                data);
  }
  return result;
}

}  // namespace dalle
