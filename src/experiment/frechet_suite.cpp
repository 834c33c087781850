#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/log.h"
#include "eval/feature_distances.h"
#include "eval/feature_set.h"
#include "experiment/compared_images.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"

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

/// The Fréchet distances by the blur of both sides, of the spaces that blurred images have.
ordered_json blurred_distances(const std::vector<FeatureKind>& kinds, const FeatureSet& validation,
                               const FeatureSet& generated, const FeatureSet& training) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < kinds.size(); ++i) {
    const auto& [space, blur] = kinds[i];
    const at::Tensor features = validation.features(i);
    if (space.name == kDvaeSpace || !can_fit_normal(features)) continue;
    const NormalFit fit = fit_normal(features);
    list.push_back({{"space", space.name},
                    {"radius", blur},
                    {"generated", frechet_distance(fit, fit_normal(generated.features(i)))}});
    if (const at::Tensor trained = training.features(i); can_fit_normal(trained))
      list.back()["training"] = frechet_distance(fit, fit_normal(trained));
  }
  return list;
}

/// The mean cosine of the angle between an image and its caption, in a space of both: what Hessel
/// et al. 2021, "CLIPScore", divide by 0.4.
/// @param images  [N, D]
ordered_json clip_score(const FeatureSpace& space, const at::Tensor& images,
                        const std::vector<std::string>& captions) {
  constexpr size_t kAtOnce = 32;
  std::vector<at::Tensor> parts;
  for (size_t begin = 0; begin < captions.size(); begin += kAtOnce)
    parts.push_back(space.of_captions(
        std::span(captions).subspan(begin, std::min(kAtOnce, captions.size() - begin))));
  return number_of(
      mean_interval(at::cosine_similarity(images, at::cat(parts)).to(at::kDouble).contiguous()));
}

/// Adds the reconstructions of the validation images, rounded to 8 bits like generated images.
void add_reconstructions(FeatureSet& set, EvaluatedModel& model, const EvaluationData& data,
                         const CheckStop& check_stop) {
  const c10::Device device = model.vae->parameters().front().device();
  data.for_each_batch(
      "frechet: reconstructions", check_stop,
      [&](const Batch& batch) {
        const at::Tensor codes = model.vae->encode(unit_images(batch, device));
        set.add(model.vae->decode(codes).mul(255).round().to(at::kByte));
      },
      data.images_to_generate());
}

}  // namespace

SuiteResult evaluate_frechet(EvaluatedModel& model, const EvaluationData& data,
                             ImageGenerator& generator,
                             const std::optional<FeatureSpace>& extractor,
                             const CheckStop& check_stop) {
  const torch::NoGradGuard no_grad;
  const c10::Device device = model.vae->parameters().front().device();
  std::vector<FeatureSpace> spaces = {random_space(device), dvae_space(model.vae)};
  if (extractor) spaces.push_back(*extractor);
  const std::vector<FeatureKind> kinds = feature_kinds(spaces, model.config.data.image_size);
  const ComparedImages compared =
      compare_images(model, data, generator, kinds, "frechet", check_stop);
  FeatureSet training(kinds), reconstructed({kinds.begin(), kinds.begin() + std::ssize(spaces)});
  add_reconstructions(reconstructed, model, data, check_stop);
  data.for_each_training_batch(
      "frechet: training images", check_stop,
      [&](const Batch& batch) { training.add(batch.images.to(device)); },
      compared.validation.size());

  SuiteResult result;
  result.numbers = {{"images", compared.generated.size()}, {"training_images", training.size()}};
  ordered_json notes = ordered_json::array(), dimensions;
  for (size_t i = 0; i < spaces.size(); ++i) {
    check_stop();
    const at::Tensor validation = compared.validation.features(i), trained = training.features(i);
    const auto generated = comparison_of(validation, compared.generated.features(i));
    const auto of_training =
        trained.size(0) > kNeighbors ? comparison_of(validation, trained) : ordered_json::object();
    const auto of_reconstructed = distances_of(validation, reconstructed.features(i));
    for (const auto& [name, number] : generated.items()) {
      const std::string key = spaces[i].name + "_" + name;
      result.numbers[key] = number;
      if (of_training.contains(name)) result.numbers[key + "_training"] = of_training.at(name);
      if (of_reconstructed.contains(name))
        result.numbers[key + "_reconstructed"] = of_reconstructed.at(name);
    }
    if (spaces[i].of_captions) {
      const std::string key = spaces[i].name + "_clip_score";
      result.numbers[key] =
          clip_score(spaces[i], compared.generated.features(i), compared.captions);
      result.numbers[key + "_validation"] = clip_score(spaces[i], validation, compared.captions);
    }
    if (const auto note = note_on(spaces[i].name, validation)) notes.push_back(*note);
    dimensions[spaces[i].name] = validation.size(1);
  }
  result.numbers["dimensions"] = std::move(dimensions);
  result.numbers["notes"] = std::move(notes);
  result.numbers["blur"] =
      blurred_distances(kinds, compared.validation, compared.generated, training);
  return result;
}

}  // namespace dalle
