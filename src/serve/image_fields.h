#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/image/image.h"
#include "sample/image_prompt.h"
#include "sample/sampling_config.h"
#include "serve/image_size.h"
#include "serve/request_fields.h"

namespace dalle {

/// The routes that generate images in OpenAI's API, by what they are given.
enum class ImageEndpoint {
  kGenerations,  ///< a prompt
  kEdits,        ///< a prompt and an image, a part of which is kept
  kVariations,   ///< an image
};

inline constexpr int64_t kMostImages = 64;   ///< of a request; OpenAI allows 10
inline constexpr int64_t kMostBestOf = 512;  ///< as many as the paper generates for a caption
inline constexpr int64_t kMostPreviews = 3;  ///< of an image
inline constexpr int64_t kMostPromptBytes = 32'000;
/// The fraction of an image's codes that is regenerated if a request does not say what to keep.
inline constexpr double kUsualVariation = 0.5;

/// The fields of an endpoint's requests.
std::vector<RequestField> image_request_fields(ImageEndpoint endpoint);
/// The six of SamplingConfig, with its ranges.
std::vector<RequestField> sampling_request_fields();

/// How to answer with images.
struct ImageFormatFields {
  std::optional<ImageSize> size = {};  ///< nothing: the model's
  ImageFormat format = ImageFormat::kPng;
  int quality = 95;  ///< of JPEG and WebP
};

/// A request to one of the endpoints.
struct ImageFields {
  std::string prompt;  ///< empty: not given
  std::string model;   ///< empty: not given
  int64_t n = 1;
  int64_t best_of = 0;
  std::optional<int64_t> seed = {};
  SamplingOverrides sampling = {};
  ImagePromptRequest image_prompt = {};  ///< without an image: none
  std::string image_field = "image";     ///< the field that holds it, for errors
  ImageFormatFields answer = {};
  std::string quality = {};            ///< in answers: low, medium, high, xhigh or max
  std::string safety_identifier = {};  ///< in answers; empty: none
  bool as_url = false;
  bool is_streamed = false;
  int64_t previews = 0;
};

SamplingOverrides sampling_overrides(const RequestFields& fields);

/// @throws ApiError naming the field that is missing, wrong, or contradicts another
ImageFields parse_image_fields(const HttpRequest& request, ImageEndpoint endpoint);

/// A prompt that words can be read from.
/// @throws ApiError
std::string checked_prompt(std::string prompt);

}  // namespace dalle
