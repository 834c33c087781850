#pragma once

#include <vector>

#include "serve/api_context.h"
#include "serve/request_fields.h"
#include "serve/routes.h"

namespace dalle {

/// The fields of /sdapi/v1/txt2img and, with those of an image, img2img.
std::vector<RequestField> sdapi_request_fields(bool with_image);
/// The fields of a POST to /sdapi/v1/options.
std::vector<RequestField> sdapi_option_fields();

/// Adds the routes of AUTOMATIC1111's web UI that clients use to generate images. Fields without a
/// counterpart, such as steps, are accepted, and `info` says that they had no effect.
/// @param context  must outlive the routes
void add_sdapi_routes(Routes& routes, ApiContext& context);

}  // namespace dalle
