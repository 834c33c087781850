#include "serve/generation_request.h"

#include <cstdint>
#include <random>
#include <utility>

#include "core/error.h"
#include "data/image/image_file.h"
#include "sample/image_prompt.h"
#include "serve/api_error.h"

namespace dalle {
namespace {

/// Images of a request may have as many pixels, whatever their size is after scaling.
constexpr int64_t kMostPromptPixels = int64_t{4096} * 4096;

/// @throws dalle::Error if the file is not an image, or if its header declares too many pixels
void check_prompt_pixels(const std::string& file) {
  const ImageFile inspected = inspect_image_file(file);
  if (inspected.width * inspected.height > kMostPromptPixels)
    throw Error("found {} x {} pixels, expected at most {} in total", inspected.width,
                inspected.height, kMostPromptPixels);
}

/// Sets the forced codes, the variation and the pixels to paste.
void add_image_prompt(GenerationRequest& request, const ImageFields& fields,
                      const TrainedDalle& dalle) {
  const ImagePromptRequest& wanted = fields.image_prompt;
  const DataConfig& data = dalle.config.data;
  try {
    blaming_member("image", [&] { check_prompt_pixels(wanted.image); });
    if (wanted.mask) blaming_member("mask", [&] { check_prompt_pixels(*wanted.mask); });
    ImagePrompt prompt = prepare_image_prompt(wanted, dalle.vae, data.image_size,
                                              static_cast<uint8_t>(data.background));
    request.forced = prompt.forced;
    request.variation = prompt.variation;
    if (!wanted.paste_original) return;
    request.pasted_pixels = prompt.kept_pixels;
    request.original = std::move(prompt.image);
  } catch (const ImagePromptError& error) {
    const std::string field = error.member == "image" ? fields.image_field : error.member;
    throw wrong_field(field, "{}", error.what());
  }
}

/// The settings of the model's config, with those that the request replaces.
/// @throws ApiError naming the field
SamplingConfig requested_sampling(const SamplingOverrides& overrides, const TrainedDalle& dalle) {
  try {
    return override_sampling<SamplingOverrides>(dalle.config.sample, overrides);
  } catch (const Error& error) {  // its message begins with the name
    const std::string message = error.what();
    throw ApiError(400, message, message.substr(0, message.find(':')));
  }
}

}  // namespace

int64_t random_seed() {
  std::random_device device;
  return device();
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
    throw wrong_field("prompt", "missing; this model's config has no caption to use instead");
  if (dalle.tokenizer.encode(request.caption).empty())
    throw wrong_field("prompt", "contains no tokens of the model's tokenizer");
  if (!fields.image_prompt.image.empty()) add_image_prompt(request, fields, dalle);
  return request;
}

}  // namespace dalle
