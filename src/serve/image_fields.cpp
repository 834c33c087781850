#include "serve/image_fields.h"

#include <span>
#include <type_traits>
#include <utility>

#include "core/ascii.h"
#include "sample/sampling_config.h"
#include "serve/api_error.h"

namespace dalle {
namespace {

using enum FieldKind;

constexpr double kLongestName = 512;  // bytes, of texts that are only passed on

constexpr RequestField kPromptFields[] = {
    {.name = "prompt",
     .kind = kText,
     .help =
         "the caption; for variations, default: the first of sample.captions in the model's config",
     .max = kMostPromptBytes},
};

constexpr RequestField kAnswerFields[] = {
    {.name = "model",
     .kind = kText,
     .help = "an id of /v1/models; any other name selects the first model",
     .max = kLongestName},
    {.name = "n", .kind = kInteger, .help = "number of images", .min = 1, .max = kMostImages},
    {.name = "size",
     .kind = kText,
     .help =
         "auto (the model's size) or WIDTHxHEIGHT; images have the nearest integer multiple of the "
         "model's size, which the response states as size",
     .max = 16},
    {.name = "response_format",
     .kind = kChoice,
     .help = "b64_json (base64 in the response) or url (URLs that expire); default: b64_json",
     .choices = "b64_json url"},
    {.name = "output_format",
     .kind = kChoice,
     .help = "of the image files; default: png",
     .choices = "png jpeg webp"},
    {.name = "output_compression",
     .kind = kInteger,
     .help = "quality of jpeg and webp; default: 95",
     .min = 0,
     .max = 100},
    {.name = "user",
     .kind = kText,
     .help = "echoed in the response as safety_identifier",
     .max = kLongestName},
    {.name = "safety_identifier",
     .kind = kText,
     .help = "echoed in the response",
     .max = kLongestName},
    {.name = "seed",
     .kind = kInteger,
     .help = "the same seed, prompt and model give the same images as dalle-sample; default: a "
             "random seed, which the response contains",
     .min = 0},
    {.name = "best_of",
     .kind = kInteger,
     .help = "generate this many candidates and return the n that fit the prompt best, best first; "
             "needs a model that can rank",
     .min = 1,
     .max = kMostBestOf},
};

constexpr RequestField kStreamFields[] = {
    {.name = "stream", .kind = kFlag, .help = "stream the response as server-sent events"},
    {.name = "partial_images",
     .kind = kInteger,
     .help = "previews of each image in a stream",
     .min = 0,
     .max = kMostPreviews},
    {.name = "quality",
     .kind = kChoice,
     .help = "ignored",
     .choices = "auto low medium high xhigh max standard hd"},
    {.name = "background",
     .kind = kChoice,
     .help = "ignored: images are always opaque",
     .choices = "auto opaque transparent"},
    {.name = "moderation", .kind = kChoice, .help = "ignored", .choices = "auto low"},
};

constexpr RequestField kGenerationFields[] = {
    {.name = "style", .kind = kChoice, .help = "ignored", .choices = "vivid natural"},
};

constexpr RequestField kImageFileFields[] = {
    {.name = "image",
     .kind = kFiles,
     .help = "the image prompt: one PNG, JPEG, WebP or BMP file, cropped and scaled to the model's "
             "square"},
    {.name = "variation",
     .kind = kNumber,
     .help = "fraction of the kept codes that is regenerated anyway; default: 0.5 without mask, "
             "keep or keep_rows",
     .min = 0,
     .max = 1},
};

constexpr RequestField kKeepFields[] = {
    {.name = "mask",
     .kind = kFile,
     .help = "an image file as large as the image, or as the model's image: transparent pixels are "
             "generated; without "
             "transparent pixels, dark ones are"},
    {.name = "keep_rows",
     .kind = kNumber,
     .help = "keep this fraction of the image's rows, from the top",
     .min = 0,
     .max = 1},
    {.name = "keep",
     .kind = kRectangle,
     .help = "keep the rectangle x,y,width,height, in pixels of the model's square"},
    {.name = "paste_original",
     .kind = kFlag,
     .help = "give kept pixels their original values instead of decoding them from codes"},
    {.name = "strict",
     .kind = kFlag,
     .help = "refuse to keep codes that the model cannot see when it generates earlier ones"},
    {.name = "input_fidelity", .kind = kChoice, .help = "ignored", .choices = "high low"},
};

/// Responses never contain "auto", nor the values that former models used.
std::string answered_quality(const std::string& quality) {
  if (quality == "standard") return "medium";
  return quality.empty() || quality == "auto" || quality == "hd" ? "high" : quality;
}

ImageFormatFields parse_format(const RequestFields& fields) {
  ImageFormatFields answer;
  const std::string size = fields.text("size").value_or("");
  if (!size.empty() && size != "auto") {
    answer.size = parse_image_size(size);
    if (!answer.size) throw wrong_field("size", "expected auto or WIDTHxHEIGHT, such as 512x512");
  }
  if (const auto format = fields.choice("output_format"))
    answer.format = *find_image_format(*format);
  answer.quality = static_cast<int>(fields.integer("output_compression").value_or(answer.quality));
  return answer;
}

/// @throws ApiError if two fields contradict one another, or if no image is given
void check_image_prompt(const ImagePromptRequest& prompt) {
  if (prompt.image.empty()) throw wrong_field("image", "missing, expected an image file");
  const auto refuse_both = [](const char* field, const char* other) {
    throw wrong_field(field, "cannot be combined with {}", other);
  };
  if (prompt.keep_rows && prompt.keep) refuse_both("keep", "keep_rows");
  if (prompt.keep_rows && prompt.mask) refuse_both("mask", "keep_rows");
  if (prompt.keep && prompt.mask) refuse_both("mask", "keep");
  if (prompt.variation && prompt.paste_original) refuse_both("paste_original", "variation");
  // In a variation, almost all kept codes come after a generated one, which `strict` refuses.
  if (prompt.variation && prompt.strict) refuse_both("strict", "variation");
}

ImagePromptRequest parse_image_prompt(const RequestFields& fields, ImageEndpoint endpoint) {
  ImagePromptRequest prompt;
  std::vector<std::string> images = fields.files("image");
  if (images.size() > 1) throw wrong_field("image", "found {} images, expected one", images.size());
  if (images.size() == 1) prompt.image = std::move(images.front());
  prompt.variation = fields.number("variation");
  if (endpoint == ImageEndpoint::kEdits) {
    prompt.mask = fields.file("mask");
    prompt.keep_rows = fields.number("keep_rows");
    prompt.keep = fields.rectangle("keep");
    prompt.paste_original = fields.flag("paste_original").value_or(false);
    prompt.strict = fields.flag("strict").value_or(false);
    (void)fields.choice("input_fidelity");
  }
  const bool says_what_to_keep = prompt.mask || prompt.keep_rows || prompt.keep;
  if (!says_what_to_keep && prompt.paste_original)
    throw wrong_field("paste_original", "requires mask, keep or keep_rows");
  if (!says_what_to_keep && prompt.strict)
    throw wrong_field("strict", "requires mask, keep or keep_rows");
  if (!says_what_to_keep && !prompt.variation) prompt.variation = kUsualVariation;
  check_image_prompt(prompt);
  return prompt;
}

void parse_stream_fields(const RequestFields& fields, ImageFields& parsed) {
  parsed.is_streamed = fields.flag("stream").value_or(false);
  parsed.previews = fields.integer("partial_images").value_or(0);
  if (!parsed.is_streamed) parsed.previews = 0;
  parsed.quality = fields.choice("quality").value_or("");
  (void)fields.choice("background");
  (void)fields.choice("moderation");
  if (parsed.is_streamed && parsed.as_url)
    throw wrong_field("response_format", "found url, expected b64_json in a stream");
}

}  // namespace

std::vector<RequestField> sampling_request_fields() {
  std::vector<RequestField> fields;
  SamplingConfig sampling;
  SamplingConfig::fields(sampling, [&](std::string_view key, auto& value, const Field& field) {
    const bool is_whole = std::is_same_v<decltype(value), int64_t&>;
    fields.push_back({.name = key,
                      .kind = is_whole ? kInteger : kNumber,
                      .help = field.help,
                      .min = field.min,
                      .max = field.max});
  });
  return fields;
}

std::vector<RequestField> image_request_fields(ImageEndpoint endpoint) {
  std::vector<RequestField> fields;
  const auto add = [&](std::span<const RequestField> more) {
    fields.insert(fields.end(), more.begin(), more.end());
  };
  add(kPromptFields);
  if (endpoint != ImageEndpoint::kGenerations) add(kImageFileFields);
  if (endpoint == ImageEndpoint::kEdits) add(kKeepFields);
  add(kAnswerFields);
  if (endpoint != ImageEndpoint::kVariations) add(kStreamFields);
  if (endpoint == ImageEndpoint::kGenerations) add(kGenerationFields);
  add(sampling_request_fields());
  return fields;
}

SamplingOverrides sampling_overrides(const RequestFields& fields) {
  return {.temperature = fields.number("temperature"),
          .top_k = fields.integer("top_k"),
          .top_p = fields.number("top_p"),
          .guidance = fields.number("guidance"),
          .guidance_from = fields.number("guidance_from"),
          .guidance_to = fields.number("guidance_to")};
}

std::string checked_prompt(std::string prompt) {
  if (is_blank(prompt)) throw wrong_field("prompt", "empty; expected text");
  return prompt;
}

ImageFields parse_image_fields(const HttpRequest& request, ImageEndpoint endpoint) {
  const std::vector<RequestField> known = image_request_fields(endpoint);
  const RequestFields fields(request, known);
  ImageFields parsed{.prompt = fields.text("prompt").value_or(""),
                     .model = fields.text("model").value_or(""),
                     .n = fields.integer("n").value_or(1),
                     .best_of = fields.integer("best_of").value_or(0),
                     .seed = fields.integer("seed"),
                     .sampling = sampling_overrides(fields),
                     .answer = parse_format(fields)};
  if (endpoint != ImageEndpoint::kVariations || !parsed.prompt.empty())
    parsed.prompt = checked_prompt(parsed.prompt);
  if (endpoint != ImageEndpoint::kGenerations)
    parsed.image_prompt = parse_image_prompt(fields, endpoint);
  if (parsed.best_of != 0 && parsed.best_of < parsed.n)
    throw wrong_field("best_of", "found {}, expected at least n, which is {}", parsed.best_of,
                      parsed.n);
  parsed.safety_identifier = fields.text("user").value_or("");
  const std::string identifier = fields.text("safety_identifier").value_or("");
  if (!identifier.empty()) parsed.safety_identifier = identifier;
  parsed.as_url = fields.choice("response_format") == "url";
  if (endpoint != ImageEndpoint::kVariations) parse_stream_fields(fields, parsed);
  if (endpoint == ImageEndpoint::kGenerations) (void)fields.choice("style");
  parsed.quality = answered_quality(parsed.quality);
  return parsed;
}

}  // namespace dalle
