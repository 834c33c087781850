#include "decode_options.h"

namespace dalle {

void add_decode_options(CLI::App& app, DecodeOptions& options) {
  app.add_option(
         "--batch-size", options.batch_size,
         "number of images generated at once; larger batches take more memory; on a CPU, the "
         "images do not depend on it; default: 32, or fewer for models with a large KV cache")
      ->transform(whole_number(1, 4096));
  app.add_option(
         "--decode", options.decode,
         "sequential, parallel (guess tokens ahead and keep the correct ones) or auto; does not "
         "change the images; default: the model's config")
      ->check(CLI::IsMember({"sequential", "parallel", "auto"}));
  app.add_option(
         "--window", options.window,
         "maximum number of tokens of an image to compute in one pass; default: the model's config")
      ->transform(whole_number(1, 1024));
}

DecodeConfig override_decoding(DecodeConfig decode, const DecodeOptions& options) {
  for (const auto& [mode, name] : enum_names(DecodeMode{}))
    if (options.decode == name) decode.decode = mode;
  decode.window = options.window.value_or(decode.window);
  return decode;
}

}  // namespace dalle
