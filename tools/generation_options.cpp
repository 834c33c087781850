#include "generation_options.h"

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "core/fields.h"
#include "core/strict_number.h"

namespace dalle {
namespace {

/// The range of the config key cannot express this bound.
std::string check_top_p(const std::string& text) {
  return parse_number(text) == 0.0 ? fmt::format("found {}, expected more than 0", text) : "";
}

/// The range of a key under `sample`.
CLI::Validator range_of(std::string_view name) {
  SamplingConfig config;
  Field found;
  SamplingConfig::fields(config, [&](std::string_view key, auto&, const Field& field) {
    if (key == name) found = field;
  });
  return number(found.min, found.max);
}

}  // namespace

void add_sampling_options(CLI::App& app, SamplingOverrides& options) {
  app.add_option("--temperature", options.temperature,
                 "divides the logits; 0 takes the most likely token; default: the model's config")
      ->transform(range_of("temperature"));
  app.add_option("--top-k", options.top_k, "sample from the k most likely tokens; 0: all")
      ->transform(whole_number(0));
  app.add_option("--top-p", options.top_p,
                 "nucleus sampling: sample from the smallest set of most likely tokens whose total "
                 "probability reaches p")
      ->transform(range_of("top_p"))
      ->check(check_top_p);
  app.add_option("--guidance", options.guidance,
                 "scale of classifier-free guidance: more than 1 follows the caption more closely, "
                 "at up to twice the cost; 1: off; for models trained with "
                 "dalle.train.caption_dropout")
      ->transform(range_of("guidance"));
  app.add_option("--guidance-from", options.guidance_from,
                 "fraction of an image's tokens, 0 to 1, after which guidance begins")
      ->transform(range_of("guidance_from"));
  app.add_option("--guidance-to", options.guidance_to,
                 "fraction of an image's tokens, 0 to 1, after which guidance ends")
      ->transform(range_of("guidance_to"));
}

void add_decode_options(CLI::App& app, DecodeOptions& options) {
  app.add_option(
         "--batch-size", options.batch_size,
         "number of images generated at once; larger batches take more memory; on a CPU, the "
         "images do not depend on it; default: 32, or fewer for models with a large KV cache")
      ->transform(whole_number(1, 4096));
  add_enum_option<DecodeMode>(
      app, "--decode", options.decode,
      "sequential, parallel (guess tokens ahead and keep the correct ones) or auto; does not "
      "change the images; default: the model's config");
  app.add_option(
         "--window", options.window,
         "maximum number of tokens of an image to compute in one pass; default: the model's config")
      ->transform(whole_number(1, 1024));
}

DecodeConfig override_decoding(DecodeConfig decode, const DecodeOptions& options) {
  decode.decode = options.decode.value_or(decode.decode);
  decode.window = options.window.value_or(decode.window);
  return decode;
}

}  // namespace dalle
