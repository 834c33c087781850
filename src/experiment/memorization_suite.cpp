#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "data/image/image.h"
#include "eval/feature_distances.h"
#include "eval/feature_set.h"
#include "experiment/compared_images.h"
#include "experiment/evaluation_suites.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxTrainingImages = 5000;
constexpr double kPercentile = 0.01;
constexpr size_t kDiverseCaptions = 32;
constexpr int64_t kImagesPerCaption = 4;

/// Adds the generated images that are nearest to a training image, nearest first, with both images.
/// @param positions  of the training images
void add_closest(SuiteResult& result, const std::string& space, const NearestNeighbors& nearest,
                 const std::vector<int64_t>& positions, const ComparedImages& compared,
                 const EvaluationData& data) {
  constexpr int64_t kShown = 8;
  const at::Tensor order = nearest.distance.argsort(/*stable=*/true, /*dim=*/0, false);
  for (int64_t i = 0; i < std::min(order.numel(), kShown); ++i) {
    const auto image = order[i].item<int64_t>();
    const int64_t position = positions[static_cast<size_t>(nearest.index[image].item<int64_t>())];
    const std::string stem = fmt::format("memorization-{}-{}", space, i + 1);
    const std::string generated = stem + ".png", training = stem + "-training.png";
    result.numbers["closest"].push_back({{"space", space},
                                         {"caption", compared.captions[static_cast<size_t>(image)]},
                                         {"distance", nearest.distance[image].item<double>()},
                                         {"key", data.training_key(position)},
                                         {"generated", generated},
                                         {"training", training}});
    result.images[generated] = tensor_to_image(compared.images[static_cast<size_t>(image)]);
    result.images[training] = data.training_image(position);
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
  // The distance of an image from itself is no pair.
  numbers[space + "_same_caption"] = number_of(mean_interval(own * (images / (images - 1))));
  if (captions < 3) return;
  // A mean over pairs has twice the error of the mean over captions of their mean distances.
  const at::Tensor others = (means.sum(1) - own) / (captions - 1);
  numbers[space + "_other_captions"] = number_of(mean_interval(2 * others - others.mean()));
}

/// The features of kImagesPerCaption images of each of the first captions that differ.
FeatureSet caption_features(EvaluatedModel& model, ImageGenerator& generator,
                            const std::vector<FeatureKind>& kinds,
                            const std::vector<std::string>& captions, const CheckStop& check_stop) {
  std::set<std::string> used;
  std::vector<std::string> repeated;
  for (const std::string& caption : captions)
    if (used.size() < kDiverseCaptions && used.insert(caption).second)
      repeated.insert(repeated.end(), kImagesPerCaption, caption);
  FeatureSet set(kinds);
  add_images(set, generator.images(repeated, "memorization", check_stop),
             model.vae->parameters().front().device(), "memorization: images of captions",
             check_stop);
  return set;
}

}  // namespace

SuiteResult evaluate_memorization(EvaluatedModel& model, const EvaluationData& data,
                                  ImageGenerator& generator,
                                  const std::optional<FeatureSpace>& extractor,
                                  const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const c10::Device device = model.vae->parameters().front().device();
  std::vector<FeatureKind> kinds = {{pixel_space()}, {dvae_space(model.vae)}};
  if (extractor) kinds.push_back({*extractor});
  const ComparedImages compared =
      compare_images(model, data, generator, kinds, "memorization", check_stop);
  FeatureSet training(kinds);
  std::vector<int64_t> positions;
  data.for_each_training_batch(
      "memorization: training images", check_stop,
      [&](const Batch& batch) {
        training.add(batch.images.to(device));
        positions.insert(positions.end(), batch.positions.begin(), batch.positions.end());
      },
      kMaxTrainingImages);
  const FeatureSet of_captions =
      caption_features(model, generator, kinds, compared.captions, check_stop);

  SuiteResult result;
  ordered_json& numbers = result.numbers;
  numbers = {{"images", compared.generated.size()},
             {"training_images", training.size()},
             {"captions_compared", of_captions.size() / kImagesPerCaption},
             {"images_per_caption", kImagesPerCaption}};
  numbers["closest"] = ordered_json::array();
  for (size_t i = 0; i < kinds.size(); ++i) {
    check_stop();
    const std::string& space = kinds[i].space.name;
    const at::Tensor candidates = training.features(i);
    const auto generated = nearest_neighbors(compared.generated.features(i), candidates);
    const auto validation = nearest_neighbors(compared.validation.features(i), candidates);
    const at::Tensor nearer = generated.distance < validation.distance.quantile(kPercentile);
    numbers[space + "_nearer"] = number_of(wilson_interval(nearer));
    numbers[space + "_generated_distance"] = number_of(mean_interval(generated.distance));
    numbers[space + "_validation_distance"] = number_of(mean_interval(validation.distance));
    write_diversity(numbers, space, of_captions.features(i).unflatten(0, {-1, kImagesPerCaption}));
    add_closest(result, space, generated, positions, compared, data);
  }
  return result;
}

}  // namespace dalle
