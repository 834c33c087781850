#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/log.h"
#include "eval/feature_distances.h"
#include "experiment/evaluation/compared_images.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/stages/experiment_data.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kNeighbors = 5;           ///< of neighborhood_scores(), as in Naeem et al. 2020
constexpr int64_t kImagesPerDimension = 5;  ///< with fewer, the bias of a Fréchet distance is large

/// The spaces without blur first, then those other than the dVAE's, which knows no blurred images,
/// with the radii of the paper's figure 9, up to an eighth of the image's side.
std::vector<FeatureKind> feature_kinds(const std::vector<FeatureSpace>& spaces,
                                       int64_t image_size) {
  std::vector<FeatureKind> kinds;
  for (const double blur : {0, 1, 2, 4, 8})
    for (const FeatureSpace& space : spaces)
      if (blur == 0 || (space.name != kDvaeSpace && 8 * blur <= static_cast<double>(image_size)))
        kinds.push_back({.space = space, .blur = blur});
  return kinds;
}

/// Whether the covariance of these features has full rank.
bool can_fit_normal(const at::Tensor& features) {
  return features.size(0) > features.size(1);
}

/// The distances of a set from the validation images in one space.
/// @param validation, others  [N, D] and [M, D]
ordered_json distances_of(const at::Tensor& validation, const at::Tensor& others) {
  ordered_json numbers;
  if (can_fit_normal(validation) && can_fit_normal(others))
    numbers["frechet"] = number_of(frechet_distance(fit_normal(validation), fit_normal(others)));
  const int64_t pairs = std::min(validation.size(0), others.size(0));
  numbers["kid"] =
      number_of(kernel_distance(validation.narrow(0, 0, pairs), others.narrow(0, 0, pairs)));
  return numbers;
}

/// Those, and what part of each set lies near the other.
ordered_json comparison_of(const at::Tensor& validation, const at::Tensor& others) {
  ordered_json numbers = distances_of(validation, others);
  const NeighborhoodScores scores = neighborhood_scores(validation, others, kNeighbors);
  numbers["precision"] = number_of(scores.precision);
  numbers["recall"] = number_of(scores.recall);
  numbers["density"] = number_of(scores.density);
  numbers["coverage"] = number_of(scores.coverage);
  return numbers;
}

/// What to know of the Fréchet distances in a space, which is also logged.
std::optional<std::string> note_on(const std::string& space, const at::Tensor& features) {
  const int64_t images = features.size(0), dimensions = features.size(1);
  if (images >= kImagesPerDimension * dimensions) return std::nullopt;
  std::string note = fmt::format("{}: {} images in {} dimensions ", space, images, dimensions);
  note += can_fit_normal(features)
              ? "are few: much of the Fréchet distance is bias, so compare it only with that of "
                "the training images"
              : "are too few for a Fréchet distance, expected more images than dimensions";
  log_warning("frechet: {}", note);
  return note;
}

/// The sets of images that the suite compares.
struct ComparedSets {
  FeatureSet validation, generated, training;
  FeatureSet reconstructed;  ///< without blur only
};

/// The numbers of a space, under its name.
ordered_json numbers_of_space(const std::string& space, const ComparedSets& sets, size_t kind) {
  const at::Tensor &validation = sets.validation.kinds[kind], &training = sets.training.kinds[kind];
  const ordered_json generated = comparison_of(validation, sets.generated.kinds[kind]);
  const ordered_json of_training =
      training.size(0) > kNeighbors ? comparison_of(validation, training) : ordered_json::object();
  const ordered_json of_reconstructed = distances_of(validation, sets.reconstructed.kinds[kind]);
  ordered_json numbers;
  for (const auto& [name, number] : generated.items()) {
    const std::string key = space + "_" + name;
    numbers[key] = number;
    if (of_training.contains(name)) numbers[key + "_training"] = of_training.at(name);
    if (of_reconstructed.contains(name))
      numbers[key + "_reconstructed"] = of_reconstructed.at(name);
  }
  return numbers;
}

/// The mean cosine similarity of images and their captions, in a space of both: that of Hessel et
/// al. 2021, "CLIPScore", who then replace negative values by 0, multiply by 2.5, and begin
/// captions with "A photo depicts".
/// @param images, captions  [N, D]
ordered_json clip_score(const at::Tensor& images, const at::Tensor& captions) {
  return number_of(mean_interval(doubles_of(at::cosine_similarity(images, captions))));
}

/// @return  [N, D]; undefined if captions are not in the space
at::Tensor embedded_captions(const FeatureSpace& space, const std::vector<std::string>& captions,
                             ChunkedWork& work) {
  if (!space.of_captions) return {};
  const SuitePhase phase{"frechet", space.name + " captions"};
  const auto records =
      work.records(phase.in_chunks(std::ssize(captions)), [&](const Chunk& chunk) -> ordered_json {
        return {{"captions", tensor_record(space.of_captions(items_of(chunk, captions)))}};
      });
  return joined_tensors(records, "captions");
}

/// The Fréchet distances after a blur of both sides; null for spaces that no blurred images have.
ordered_json blurred_distances(const FeatureKind& kind, const ComparedSets& sets, size_t index) {
  const at::Tensor& features = sets.validation.kinds[index];
  if (kind.space.name == kDvaeSpace || !can_fit_normal(features)) return nullptr;
  const NormalFit fit = fit_normal(features);
  const auto distance = [&](const FeatureSet& set) {
    return frechet_distance(fit, fit_normal(set.kinds[index]));
  };
  ordered_json distances = {
      {"space", kind.space.name}, {"radius", kind.blur}, {"generated", distance(sets.generated)}};
  if (can_fit_normal(sets.training.kinds[index])) distances["training"] = distance(sets.training);
  return distances;
}

/// The features of the validation images' reconstructions, rounded to 8 bits like generated images.
FeatureSet features_of_reconstructions(EvaluatedModel& model, const EvaluationData& data,
                                       const std::vector<FeatureKind>& kinds, ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  return joined_features(data.records(
      work, {"frechet", "reconstructions"},
      [&](const Batch& batch) -> ordered_json {
        const at::Tensor codes = model.vae->encode(unit_images(batch.images, device));
        const at::Tensor decoded = model.vae->decode(codes).mul(255).round().to(at::kByte);
        return {{"features", feature_record(features_of(kinds, decoded))}};
      },
      data.images_to_generate()));
}

/// The features of as many training images.
FeatureSet features_of_training(const EvaluatedModel& model, const EvaluationData& data,
                                const std::vector<FeatureKind>& kinds, int64_t count,
                                ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  return joined_features(data.records(
      work, {"frechet", "training images"},
      [&](const Batch& batch) -> ordered_json {
        return {{"features", feature_record(features_of(kinds, batch.images.to(device)))}};
      },
      count, DataPart::kTraining));
}

}  // namespace

SuiteResult evaluate_frechet(EvaluatedModel& model, const EvaluationData& data,
                             const SuiteInputs& inputs, ChunkedWork& work) {
  const c10::Device device = device_of(*model.vae);
  std::vector<FeatureSpace> spaces = {random_space(device), dvae_space(model.vae)};
  if (inputs.extractor.space) spaces.push_back(*inputs.extractor.space);
  const std::vector<FeatureKind> kinds = feature_kinds(spaces, model.config.data.image_size);
  ComparedImages compared = compare_images(model, data, inputs.generator, kinds, "frechet", work);
  std::vector<at::Tensor> captions;  // by space
  for (const FeatureSpace& space : spaces)
    captions.push_back(embedded_captions(space, compared.captions, work));
  const int64_t images = compared.generated.size();
  const ComparedSets sets{
      .validation = std::move(compared.validation),
      .generated = std::move(compared.generated),
      .training = features_of_training(model, data, kinds, images, work),
      .reconstructed = features_of_reconstructions(
          model, data, {kinds.begin(), kinds.begin() + std::ssize(spaces)}, work)};
  const ChunkedPhase phase{
      .what = "frechet: distances", .folder = "frechet/distances", .items = std::ssize(kinds)};
  const auto distances = work.records(phase, [&](const Chunk& chunk) -> ordered_json {
    const auto kind = static_cast<size_t>(chunk.begin);
    return {{"numbers", kind < spaces.size() ? numbers_of_space(spaces[kind].name, sets, kind)
                                             : ordered_json::object()},
            {"blur", blurred_distances(kinds[kind], sets, kind)}};
  });

  SuiteResult result;
  result.numbers = {{"images", images}, {"training_images", sets.training.size()}};
  ordered_json notes = ordered_json::array(), blur = ordered_json::array(), dimensions;
  for (const ordered_json& found : distances) {
    result.numbers.update(found.at("numbers"));
    if (!found.at("blur").is_null()) blur.push_back(found.at("blur"));
  }
  for (size_t i = 0; i < spaces.size(); ++i) {
    const at::Tensor& validation = sets.validation.kinds[i];
    if (captions[i].defined()) {
      const std::string key = spaces[i].name + "_clip_score";
      result.numbers[key] = clip_score(sets.generated.kinds[i], captions[i]);
      result.numbers[key + "_validation"] = clip_score(validation, captions[i]);
    }
    if (const auto note = note_on(spaces[i].name, validation)) notes.push_back(*note);
    dimensions[spaces[i].name] = validation.size(1);
  }
  result.numbers["dimensions"] = std::move(dimensions);
  result.numbers["notes"] = std::move(notes);
  result.numbers["blur"] = std::move(blur);
  return result;
}

}  // namespace dalle
