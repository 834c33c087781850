#pragma once

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// Describes the routes of the API and the fields of their requests, as OpenAPI 3.1 does.
nlohmann::ordered_json openapi_document();

}  // namespace dalle
