#include "prompt_options.h"

#include <cstdint>

#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

std::string check_path(const std::string& text) {
  return text.empty() ? "found an empty path, expected a file" : "";
}

std::string check_rectangle(const std::string& text) {
  return parse_rectangle(text)
             ? ""
             : fmt::format("found {}, expected x,y,width,height as integers", text);
}

/// What is kept, for ImageRequest::image_prompt.
Json describe(const ImagePromptRequest& request) {
  Json entry{{"sha256", sha256(request.image)}};
  if (request.keep_rows) entry["keep_rows"] = *request.keep_rows;
  if (request.keep) {
    const auto& [x, y, width, height] = *request.keep;
    entry["keep"] = {x, y, width, height};
  }
  if (request.mask) entry["mask"] = sha256(*request.mask);
  if (request.variation.value_or(0) > 0) entry["variation"] = *request.variation;
  if (request.paste_original) entry["paste_original"] = true;
  return entry;
}

/// The file or option that a member of the request comes from.
std::string source_of(const std::string& member, const PromptOptions& options) {
  if (member == "image") return options.image;
  if (member == "mask") return options.mask;
  return member == "keep_rows" ? "--keep-rows" : "--" + member;
}

void report_kept_codes(const PromptOptions& options, const ImagePrompt& prompt) {
  const std::string less =
      options.variation ? fmt::format(", except a random {:g} % of them", 100 * *options.variation)
                        : "";
  log_info("{}: {} of {} codes are kept{}", options.image, prompt.kept, prompt.forced.numel(),
           less);
  if (prompt.unseen > 0)
    log_info("{}; they are kept anyway (--strict makes this an error)",
             describe_unseen(prompt.unseen));
}

}  // namespace

void add_prompt_options(CLI::App& app, PromptOptions& options) {
  CLI::Option* const image =
      app.add_option("--image", options.image,
                     "image prompt: a JPEG, PNG, WebP or BMP file, cropped and scaled like "
                     "validation images; what --keep-rows, --keep, --mask or --variation keeps of "
                     "it is given, the rest is generated")
          ->check(check_path);
  CLI::Option* const rows = app.add_option("--keep-rows", options.keep_rows,
                                           "keep this fraction of the image's rows, 0 to 1")
                                ->transform(number(0, 1));
  CLI::Option* const keep =
      app.add_option("--keep", options.keep,
                     "keep a rectangle: x,y,width,height in pixels of the cropped and scaled image")
          ->check(check_rectangle);
  CLI::Option* const mask =
      app.add_option(
             "--mask", options.mask,
             "keep what is opaque in this image and generate what is transparent or, if nothing "
             "is transparent, keep what is white and generate what is black; as large as the image")
          ->check(check_path);
  CLI::Option* const variation =
      app.add_option("--variation", options.variation,
                     "regenerate this fraction of the kept codes, 0 to 1, chosen by seed, image "
                     "and position; without --keep-rows, --keep or --mask, of all codes")
          ->transform(number(0, 1));
  CLI::Option* const paste = app.add_flag(
      "--paste-original", options.paste_original,
      "give kept pixels their original values; otherwise they are decoded from their codes");
  CLI::Option* const strict = app.add_flag(
      "--strict", options.strict,
      "refuse to keep codes that come after generated ones; otherwise they are kept, but codes are "
      "generated row by row from the upper left, so earlier ones cannot take them into account");
  for (CLI::Option* option : {rows, keep, mask, variation, paste, strict}) option->needs(image);
  rows->excludes(keep)->excludes(mask);
  keep->excludes(mask);
  paste->excludes(variation);
  strict->excludes(variation);  // of which hardly any code comes before all generated ones
}

Prompt load_prompt(const PromptOptions& options, const TrainedDalle& dalle) {
  const ImagePromptRequest request{
      .image = read_file(options.image),
      .keep_rows = options.keep_rows,
      .keep = options.keep.empty() ? std::nullopt : parse_rectangle(options.keep),
      .mask = options.mask.empty() ? std::nullopt : std::optional(read_file(options.mask)),
      .variation = options.variation,
      .paste_original = options.paste_original,
      .strict = options.strict};
  const DataConfig& data = dalle.config.data;
  try {
    Prompt prompt{.parts = prepare_image_prompt(request, dalle.vae, data.image_size,
                                                static_cast<uint8_t>(data.background)),
                  .description = describe(request)};
    report_kept_codes(options, prompt.parts);
    return prompt;
  } catch (const ImagePromptError& error) {
    throw Error("{}: {}", source_of(error.member, options), error.what());
  }
}

}  // namespace dalle
