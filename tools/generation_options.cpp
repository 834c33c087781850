#include "generation_options.h"

#include <string>
#include <string_view>
#include <type_traits>

#include <fmt/format.h>

#include "core/fields.h"
#include "core/strict_number.h"

namespace dalle {
namespace {

/// The range of the config key cannot express this bound.
std::string check_top_p(const std::string& text) {
  return parse_number(text) == 0.0 ? fmt::format("found {}, expected more than 0", text) : "";
}

/// What is known of a key under `sample`.
Field sampling_field(std::string_view name) {
  SamplingConfig config;
  Field found;
  SamplingConfig::fields(config, [&](std::string_view key, auto&, const Field& field) {
    if (key == name) found = field;
  });
  return found;
}

}  // namespace

void add_sampling_options(CLI::App& app, SamplingOverrides& options) {
  const auto add = [&](const std::string& option, std::string_view key, auto& value) {
    const Field field = sampling_field(key);
    return app
        .add_option(option, value, fmt::format("{}; default: the model's config", field.help))
        ->transform(std::is_same_v<decltype(value), std::optional<int64_t>&>
                        ? whole_number(static_cast<int64_t>(field.min))
                        : number(field.min, field.max));
  };
  add("--temperature", "temperature", options.temperature);
  add("--top-k", "top_k", options.top_k);
  add("--top-p", "top_p", options.top_p)->check(check_top_p);
  add("--guidance", "guidance", options.guidance);
  add("--guidance-from", "guidance_from", options.guidance_from);
  add("--guidance-to", "guidance_to", options.guidance_to);
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
