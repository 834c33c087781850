#include "experiment/report/evaluation_numbers.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/charts.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

struct Entry {
  std::string_view suite, name, label, unit, definition;
};

constexpr Entry kEntries[] = {
    {"reconstruction", "psnr", "PSNR", "dB",
     "-10 log10 of the mean squared error, decoded from the most likely codes"},
    {"reconstruction", "psnr_worst", "lowest PSNR", "dB",
     "of the image that is reconstructed worst"},
    {"reconstruction", "ssim", "SSIM", "",
     "structural similarity (Wang et al. 2004); 1 is identical"},
    {"reconstruction", "ms_ssim", "MS-SSIM", "",
     "the same over as many of five scales as the image has (Wang et al. 2003)"},
    {"reconstruction", "psnr_soft", "PSNR, soft codes", "dB",
     "decoded from the Gumbel-softmax relaxation at the last temperature"},
    {"reconstruction", "soft_hard_gap", "soft minus hard", "dB",
     "above 1 dB, the decoder relies on mixtures of codes"},
    {"reconstruction", "nll_nats_per_dimension", "NLL", "nats",
     "negative logit-Laplace log-likelihood per channel of a pixel"},
    {"reconstruction", "kl_nats_per_position", "KL divergence", "nats",
     "of the posterior from the uniform prior, per position"},
    {"reconstruction", "negative_elbo_nats_per_dimension", "negative ELBO", "nats",
     "NLL plus the KL divergence, per channel of a pixel"},
    {"codes", "tokens_per_code", "tokens per code", "",
     "image tokens divided by the size of the codebook; below 8, too few to find all used codes"},
    {"codes", "used_fraction", "codes used", "%", "share of the codes that occur at least once"},
    {"codes", "perplexity", "perplexity", "", "exp of the entropy of the code frequencies"},
    {"codes", "perplexity_over_codes", "perplexity / codebook size", "%",
     "perplexity divided by the size of the codebook"},
    {"codes", "flip_rate", "flip rate", "%",
     "share of positions whose code changes when the image moves one pixel to the right"},
    {"codes", "entropy_bits", "entropy", "bits", "of the codes at a position, mean over positions"},
    {"likelihood", "text_bits_per_token", "text", "bits per token",
     "of the caption, without padding"},
    {"likelihood", "image_bits_per_token", "image", "bits per token", "of the image tokens"},
    {"likelihood", "bits_per_image", "whole image", "bits", "sum over the tokens of an image"},
    {"likelihood", "text_top1", "text top-1", "%",
     "caption tokens that the model finds most likely"},
    {"likelihood", "text_top5", "text top-5", "%",
     "caption tokens among the five that the model finds most likely"},
    {"likelihood", "image_top1", "image top-1", "%",
     "image tokens that the model finds most likely"},
    {"likelihood", "image_top5", "image top-5", "%",
     "image tokens among the five that the model finds most likely"},
    {"ranking", "candidates", "candidates", "",
     "captions that are compared per image: the correct one and those of other images"},
    {"ranking", "first", "correct caption first", "%",
     "images whose tokens are likelier under the correct caption than under any other"},
    {"ranking", "first_by_chance", "by chance", "%", "what a model that ignores captions reaches"},
    {"ranking", "reciprocal_rank", "mean reciprocal rank", "",
     "mean of 1 / rank of the correct caption"},
    {"ranking", "preferred_to_swapped", "correct over swapped", "%",
     "images likelier under their caption than with attributes of two objects swapped; chance: 50 "
     "%"},
    {"ranking", "preferred_to_shuffled", "correct over shuffled", "%",
     "images likelier under their caption than with its words in random order; chance: 50 %"},
    {"shapes", "exact", "exact", "%",
     "images that show all that their caption states, and no more"},
    {"shapes", "count", "count", "%", "images with as many objects as their caption"},
    {"shapes", "shape", "shape", "%", "stated shapes that are correct"},
    {"shapes", "color", "color", "%", "stated colors that are correct"},
    {"shapes", "size", "size", "%", "stated sizes that are correct"},
    {"shapes", "texture", "texture", "%", "stated textures that are correct"},
    {"shapes", "background", "background", "%", "stated backgrounds that are correct"},
    {"shapes", "relation", "relation", "%", "stated relations that are correct"},
    {"shapes", "atoms", "atoms", "%", "stated values and counts of objects that are correct"},
    {"shapes", "joint_over_product", "joint over product", "",
     "exact images divided by the product of the shares of images with all counts, all shapes, all "
     "colors, ... correct; below 1, they interfere"},
    {"shapes", "exact_over_ceiling", "exact over ceiling", "%",
     "exact images divided by exact reconstructions"},
    {"completion", "exact", "exact", "%",
     "completions of the upper half of an image that show all that its caption states, and no "
     "more"},
    {"completion", "exact_without_prompt", "exact, no image given", "%",
     "the same for images of these captions without a given half"},
    {"completion", "exact_over_ceiling", "exact over ceiling", "%",
     "exact completions divided by exact reconstructions"},
    {"completion", "intact", "given half intact", "%",
     "completions with the same objects in the given half"},
    {"best_of", "image_to_text_at_1", "image to text, recall@1", "%",
     "images whose caption is the most similar one, of at most 256"},
    {"best_of", "image_to_text_at_5", "image to text, recall@5", "%",
     "images whose caption is among the 5 most similar"},
    {"best_of", "image_to_text_at_10", "image to text, recall@10", "%",
     "images whose caption is among the 10 most similar"},
    {"best_of", "text_to_image_at_1", "text to image, recall@1", "%",
     "captions whose image is the most similar one, of at most 256"},
    {"best_of", "text_to_image_at_5", "text to image, recall@5", "%",
     "captions whose image is among the 5 most similar"},
    {"best_of", "text_to_image_at_10", "text to image, recall@10", "%",
     "captions whose image is among the 10 most similar"},
    {"best_of", "clip_score", "CLIP score", "",
     "cosine similarity of image 0 and its caption, mean over captions"},
    {"best_of", "retrieved_of_1", "retrieved, one image", "%",
     "captions whose image 0 is more similar to them than to any other caption"},
    {"best_of", "retrieved_of_4", "retrieved, best of 4", "%",
     "the same for the most similar of the images 0 to 3"},
    {"best_of", "retrieved_of_16", "retrieved, best of 16", "%", "of 16 images"},
    {"best_of", "retrieved_of_64", "retrieved, best of 64", "%", "of 64 images"},
    {"best_of", "exact_of_1", "exact, one image", "%",
     "captions whose image 0 shows all that they state, and no more"},
    {"best_of", "exact_of_4", "exact, best of 4", "%",
     "the same for the most similar of the images 0 to 3"},
    {"best_of", "exact_of_16", "exact, best of 16", "%", "of 16 images"},
    {"best_of", "exact_of_64", "exact, best of 64", "%", "of 64 images"},
    {"best_of", "possible_of_1", "any of 1 exact", "%", "equal to exact, one image"},
    {"best_of", "possible_of_4", "any of 4 exact", "%", "what a perfect ranking of 4 would reach"},
    {"best_of", "possible_of_16", "any of 16 exact", "%",
     "what a perfect ranking of 16 would reach"},
    {"best_of", "possible_of_64", "any of 64 exact", "%",
     "what a perfect ranking of 64 would reach"},
    {"frechet", "frechet", "Fréchet distance", "",
     "of normal distributions fitted to the features of generated and of validation images"},
    {"frechet", "kid", "kernel distance (KID)", "",
     "squared MMD under a cubic kernel, unbiased: 0 on average for equal distributions"},
    {"frechet", "precision", "precision", "%",
     "generated images in the neighborhood of a validation image"},
    {"frechet", "recall", "recall", "%",
     "validation images in the neighborhood of a generated image"},
    {"frechet", "density", "density", "",
     "validation images in whose neighborhood a generated image lies, over 5; near 1 if the "
     "distributions are equal"},
    {"frechet", "coverage", "coverage", "%",
     "validation images in whose neighborhood a generated image lies"},
    {"frechet", "clip_score", "CLIP score", "",
     "cosine similarity of a generated image and its caption, mean"},
    {"memorization", "nearer", "nearer than validation", "%",
     "generated images that are nearer to a training image than 99 % of the validation images are; "
     "1 % is expected without memorization"},
    {"memorization", "generated_distance", "generated to training", "",
     "mean distance from a generated image to the nearest training image"},
    {"memorization", "validation_distance", "validation to training", "",
     "mean distance from a validation image to the nearest training image"},
    {"memorization", "same_caption", "within a caption", "",
     "mean distance between two images generated from the same caption; 0 if they are equal"},
    {"memorization", "other_captions", "between captions", "",
     "mean distance between two images generated from different captions"},
};

/// Names of numbers that have no entry of their own, but the definition of another number.
struct Variant {
  std::string_view suffix, label, definition;
};

constexpr Variant kVariants[] = {
    {"_training", ", training images", "the same for training images in place of generated ones"},
    {"_reconstructed", ", reconstructions",
     "the same for reconstructions of the validation images"},
    {"_validation", ", validation images", "the same for validation images and their captions"},
    {"_by_likelihood", " by likelihood",
     "the same for the image with the highest likelihood score"},
};

/// Suites that compare images in several feature spaces name their numbers SPACE_NUMBER.
bool has_spaces(std::string_view suite) {
  return suite == "frechet" || suite == "memorization";
}

std::string digits_of(double value, std::string_view unit) {
  if (unit == "%") return fmt::format("{:.1f}", 100 * value);
  return unit == "dB" ? fmt::format("{:.2f}", value) : chart_number(value);
}

}  // namespace

std::optional<EvaluationNumber> describe_number(std::string_view suite, std::string_view name) {
  constexpr std::string_view kCeiling = "ceiling_";
  if (name.starts_with(kCeiling)) {
    auto number = describe_number(suite, name.substr(kCeiling.size()));
    if (number) {
      number->label += ", ceiling";
      number->definition = "the same for reconstructions of the captions' own images";
    }
    return number;
  }
  if (suite == "levels" && name.size() > 3 && name[0] == 'L' && name[2] == '_') {
    auto number = describe_number("shapes", name.substr(3));
    if (number) number->label = fmt::format("{}: {}", name.substr(0, 2), number->label);
    return number;
  }
  for (const auto& [suffix, label, definition] : kVariants)
    if (name.ends_with(suffix)) {
      auto number = describe_number(suite, name.substr(0, name.size() - suffix.size()));
      if (number) number->label += label, number->definition = definition;
      return number;
    }
  for (const Entry& entry : kEntries) {
    std::string_view space;
    if (has_spaces(suite) && name.ends_with(fmt::format("_{}", entry.name)))
      space = name.substr(0, name.size() - entry.name.size() - 1);
    if (entry.suite == suite && (entry.name == name || !space.empty()))
      return EvaluationNumber{
          .label = fmt::format("{}{}{}", space, space.empty() ? "" : ": ", entry.label),
          .unit = std::string(entry.unit),
          .definition = std::string(entry.definition)};
  }
  return std::nullopt;
}

std::string format_value(double value, std::string_view unit) {
  return digits_of(value, unit) + (unit.empty() ? "" : " ") + std::string(unit);
}

std::string format_interval(double low, double high, std::string_view unit) {
  return digits_of(low, unit) + " to " + format_value(high, unit);
}

std::string evaluation_table(const nlohmann::ordered_json& evaluation) {
  const auto digits = [](double value) {
    return std::abs(value) >= 0.01 || std::abs(value) < 1e-6 ? fmt::format("{:.4f}", value)
                                                             : fmt::format("{:.3g}", value);
  };
  size_t width = 33;
  for (const auto& metrics : evaluation.at("suites"))
    for (const auto& [name, metric] : metrics.items()) width = std::max(width, name.size());
  std::string table;
  for (const auto& [suite, metrics] : evaluation.at("suites").items())
    for (const auto& [name, metric] : metrics.items()) {
      if (!metric.is_object() || !metric.contains("value")) continue;
      table += fmt::format("{:<15} {:<{}} {:>10}", suite, name, width, digits(metric.at("value")));
      if (metric.contains("low"))
        table += fmt::format("  ({} to {})", digits(metric.at("low")), digits(metric.at("high")));
      table += "\n";
    }
  return table;
}

}  // namespace dalle
