#include "prompt_options.h"

#include <array>
#include <cstddef>
#include <string_view>

#include <torch/types.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/seeds.h"
#include "core/strict_number.h"
#include "data/image/image.h"
#include "sample/image_prompt.h"

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

/// Calls `work` and prefixes its errors.
template <class Work>
auto naming(const std::string& name, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error("{}: {}", name, error.what());
  }
}

/// The rectangle "x,y,width,height".
std::optional<PixelRectangle> parse_rectangle(std::string_view text) {
  std::array<int64_t, 4> numbers{};
  for (size_t i = 0; i < numbers.size(); ++i) {
    const bool is_last = i + 1 == numbers.size();
    const size_t length = is_last ? text.size() : text.find(',');
    if (length == text.npos) return std::nullopt;
    const auto number = parse_whole_number(std::string(text.substr(0, length)));
    if (!number) return std::nullopt;
    numbers[i] = *number;
    text.remove_prefix(is_last ? length : length + 1);
  }
  return PixelRectangle{numbers[0], numbers[1], numbers[2], numbers[3]};
}

std::string check_path(const std::string& text) {
  return text.empty() ? "found an empty path, expected a file" : "";
}

std::string check_rectangle(const std::string& text) {
  return parse_rectangle(text)
             ? ""
             : fmt::format("found {}, expected x,y,width,height as integers", text);
}

/// What is kept, and the JSON entry that says so.
struct Kept {
  at::Tensor pixels;  ///< [S, S] bool
  Json entry = Json::object();
};

Kept kept_by(const PromptOptions& options, const RgbImage& original, int64_t size) {
  Kept kept;
  if (options.keep_rows) {
    kept.entry["keep_rows"] = *options.keep_rows;
    kept.pixels = keep_upper_rows(*options.keep_rows, size);
  } else if (!options.keep.empty()) {
    const PixelRectangle rectangle = parse_rectangle(options.keep).value();
    kept.entry["keep"] = {rectangle.x, rectangle.y, rectangle.width, rectangle.height};
    kept.pixels = naming("--keep", [&] { return keep_rectangle(rectangle, size); });
  } else if (!options.mask.empty()) {
    const std::string mask = read_file(options.mask);
    kept.entry["mask"] = sha256(mask);
    kept.pixels = naming(options.mask, [&] { return keep_masked(mask, original, size); });
  } else {  // only a variation
    kept.pixels = torch::ones({size, size}, at::kBool);
  }
  return kept;
}

/// @param cell  pixels on a side of what a code stands for
void report_kept_codes(const PromptOptions& options, const at::Tensor& codes, int64_t cell) {
  const auto kept = codes.sum().item<int64_t>(), unseen = count_unseen(codes);
  if (kept == 0)
    throw Error("{}: no code would be kept; a code is kept if all of its {} x {} pixels are",
                options.image, cell, cell);
  const std::string less =
      options.variation ? fmt::format(", except a random {:g} % of them", 100 * *options.variation)
                        : "";
  log_info("{}: {} of {} codes are kept{}", options.image, kept, codes.numel(), less);
  if (unseen == 0) return;
  const std::string reason = fmt::format(
      "codes are generated row by row from the upper left, so {} of the kept codes come after "
      "generated ones, which cannot take them into account",
      unseen);
  if (options.strict) throw Error("--strict: {}", reason);
  log_info("{}; they are kept anyway (--strict makes this an error)", reason);
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
  const int64_t size = dalle.config.data.image_size;
  const std::string file = read_file(options.image);
  const auto background = static_cast<uint8_t>(dalle.config.data.background);
  const RgbImage original = naming(options.image, [&] { return decode_image(file, background); });
  const RgbImage image = naming(options.image, [&] {
    SeedStream unused(0);
    return crop_image(original, size, CropKind::kCenter, unused);
  });
  const Kept kept = kept_by(options, original, size);
  const at::Tensor codes = kept_codes(kept.pixels, dalle.config.layout().grid_height);
  report_kept_codes(options, codes, size / codes.size(0));
  Prompt prompt{.image = image,
                .kept_pixels = kept.pixels,
                .forced = prompt_codes(dalle.vae, image, codes),
                .variation = options.variation.value_or(0)};
  prompt.description["sha256"] = sha256(file);
  prompt.description.update(kept.entry);
  if (prompt.variation > 0) prompt.description["variation"] = prompt.variation;
  if (options.paste_original) prompt.description["paste_original"] = true;
  return prompt;
}

}  // namespace dalle
