#pragma once

#include <vector>

#include "serve/request_fields.h"

namespace dalle {

/// The routes that generate images in AUTOMATIC1111's API.
enum class SdapiEndpoint {
  kTextToImage,   ///< txt2img
  kImageToImage,  ///< img2img
};

/// The fields of an endpoint's requests.
std::vector<RequestField> sdapi_request_fields(SdapiEndpoint endpoint);
/// The fields of a POST to /sdapi/v1/options.
std::vector<RequestField> sdapi_option_fields();

}  // namespace dalle
