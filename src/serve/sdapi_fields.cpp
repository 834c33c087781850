#include "serve/sdapi_fields.h"

#include <iterator>

#include "serve/image_fields.h"

namespace dalle {
namespace {

using enum FieldKind;

constexpr double kLongestSide = 16'384;

constexpr RequestField kTextToImageFields[] = {
    {.name = "prompt", .kind = kText, .help = "the caption", .max = kMostPromptBytes},
    {.name = "negative_prompt", .kind = kText, .help = "ignored", .max = kMostPromptBytes},
    {.name = "seed",
     .kind = kInteger,
     .help = "image i is the first image of seed + i; -1: random",
     .min = -1},
    {.name = "steps", .kind = kInteger, .help = "ignored", .min = 0, .max = 10'000},
    {.name = "cfg_scale",
     .kind = kNumber,
     .help = "ignored, because clients always send one; use the field guidance instead",
     .min = 0,
     .max = 1'000},
    {.name = "sampler_name", .kind = kText, .help = "ignored", .max = 256},
    {.name = "batch_size",
     .kind = kInteger,
     .help = "images per iteration",
     .min = 1,
     .max = kMostImages},
    {.name = "n_iter",
     .kind = kInteger,
     .help = "number of iterations; total = batch_size x n_iter",
     .min = 1,
     .max = kMostImages},
    {.name = "width",
     .kind = kInteger,
     .help = "as size in the Images API",
     .min = 1,
     .max = kLongestSide},
    {.name = "height",
     .kind = kInteger,
     .help = "as size in the Images API",
     .min = 1,
     .max = kLongestSide},
    {.name = "override_settings",
     .kind = kObject,
     .help = "sd_model_checkpoint names the model of this request"},
};

constexpr RequestField kImageToImageFields[] = {
    {.name = "init_images", .kind = kFiles, .help = "one image file, in base64"},
    {.name = "denoising_strength",
     .kind = kNumber,
     .help = "fraction of the image's codes that is regenerated; ignored if there is a mask; "
             "default: 0.75",
     .min = 0,
     .max = 1},
    {.name = "mask",
     .kind = kFile,
     .help = "an image file as large as the image: light pixels are generated"},
    {.name = "inpainting_mask_invert",
     .kind = kInteger,
     .help = "1: dark pixels are generated instead",
     .min = 0,
     .max = 1},
};

constexpr RequestField kOptionFields[] = {
    {.name = "sd_model_checkpoint",
     .kind = kText,
     .help = "the model of requests that do not name one: an id of /v1/models",
     .max = 512},
};

}  // namespace

std::vector<RequestField> sdapi_request_fields(SdapiEndpoint endpoint) {
  std::vector<RequestField> fields(std::begin(kTextToImageFields), std::end(kTextToImageFields));
  if (endpoint == SdapiEndpoint::kImageToImage)
    fields.insert(fields.end(), std::begin(kImageToImageFields), std::end(kImageToImageFields));
  const std::vector<RequestField> sampling = sampling_request_fields();
  fields.insert(fields.end(), sampling.begin(), sampling.end());
  return fields;
}

std::vector<RequestField> sdapi_option_fields() {
  return {std::begin(kOptionFields), std::end(kOptionFields)};
}

}  // namespace dalle
