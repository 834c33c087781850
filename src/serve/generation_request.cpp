#include "serve/generation_request.h"

#include <random>
#include <utility>

#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"
#include "data/image/image.h"
#include "data/image/image_file.h"
#include "sample/image_prompt.h"
#include "serve/api_error.h"

namespace dalle {
namespace {

RgbImage decode_prompt_image(const std::string& file, const TrainedDalle& dalle) {
  check_prompt_pixels(file);
  return decode_image(file, static_cast<uint8_t>(dalle.config.data.background));
}

/// @return  [S, S] bool
at::Tensor kept_pixels(const ImagePromptFields& prompt, const RgbImage& original, int64_t size) {
  if (prompt.keep_rows) return keep_upper_rows(*prompt.keep_rows, size);
  if (prompt.keep) return blaming("keep", [&] { return keep_rectangle(*prompt.keep, size); });
  if (prompt.mask.empty()) return torch::ones({size, size}, at::kBool);  // only a variation
  return blaming("mask", [&] {
    check_prompt_pixels(prompt.mask);
    return keep_masked(prompt.mask, original, size);
  });
}

/// The field that says what to keep, to blame if that is nothing.
std::string keeping_field(const ImagePromptFields& prompt) {
  if (prompt.keep_rows) return "keep_rows";
  return prompt.keep ? "keep" : "mask";
}

void check_kept_codes(const ImagePromptFields& prompt, const at::Tensor& codes, int64_t cell) {
  const std::string field = keeping_field(prompt);
  if (!codes.any().item<bool>())
    throw ApiError(
        400,
        fmt::format("{}: no code would be kept; keeping a code requires all of its {} x {} "
                    "pixels",
                    field, cell, cell),
        field);
  const int64_t unseen = count_unseen(codes);
  if (prompt.strict && unseen > 0)
    throw ApiError(400,
                   fmt::format("strict: codes are generated row by row from the upper left, so {} "
                               "of the kept codes come after generated ones, which cannot take "
                               "them into account",
                               unseen),
                   "strict");
}

}  // namespace

void check_prompt_pixels(const std::string& file) {
  const ImageFile inspected = inspect_image_file(file);
  if (inspected.width * inspected.height > kMostPromptPixels)
    throw Error("found {} x {} pixels, expected at most {} in total", inspected.width,
                inspected.height, kMostPromptPixels);
}

int64_t random_seed() {
  std::random_device device;
  return device();
}

SamplingConfig requested_sampling(const SamplingOverrides& overrides, const TrainedDalle& dalle) {
  try {
    return override_sampling<SamplingOverrides>(dalle.config.sample, overrides);
  } catch (const Error& error) {  // its message begins with the name
    const std::string message = error.what();
    throw ApiError(400, message, message.substr(0, message.find(':')));
  }
}

void add_image_prompt(GenerationRequest& request, const ImagePromptFields& prompt,
                      const TrainedDalle& dalle) {
  const int64_t size = dalle.config.data.image_size;
  const RgbImage original =
      blaming("image", [&] { return decode_prompt_image(prompt.image, dalle); });
  RgbImage image = blaming("image", [&] {
    SeedStream unused(0);
    return crop_image(original, size, CropKind::kCenter, unused);
  });
  const at::Tensor kept = kept_pixels(prompt, original, size);
  const at::Tensor codes = kept_codes(kept, dalle.config.layout().grid_height);
  check_kept_codes(prompt, codes, size / codes.size(0));
  request.forced = prompt_codes(dalle.vae, image, codes);
  request.variation = prompt.variation.value_or(0);
  if (!prompt.paste_original) return;
  request.pasted_pixels = kept;
  request.original = std::move(image);
}

GenerationRequest generation_request(const ImageFields& fields, const TrainedDalle& dalle,
                                     const std::string& client) {
  GenerationRequest request{.client = client,
                            .caption = fields.prompt,
                            .seed = fields.seed ? *fields.seed : random_seed(),
                            .count = fields.n,
                            .sampling = requested_sampling(fields.sampling, dalle),
                            .best_of = fields.best_of,
                            .previews = fields.previews};
  if (request.caption.empty() && !dalle.config.sample.captions.empty())
    request.caption = dalle.config.sample.captions.front();
  if (request.caption.empty())
    throw ApiError(400, "prompt: missing; this model's config has no caption to use instead",
                   "prompt");
  if (dalle.tokenizer.encode(request.caption).empty())
    throw ApiError(400, "prompt: contains no tokens of the model's tokenizer", "prompt");
  if (!fields.image_prompt.image.empty()) add_image_prompt(request, fields.image_prompt, dalle);
  return request;
}

}  // namespace dalle
