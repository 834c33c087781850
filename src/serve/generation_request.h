#pragma once

#include <cstdint>
#include <string>

#include "experiment/trained/trained_dalle.h"
#include "serve/engine/engine_request.h"
#include "serve/image_fields.h"

namespace dalle {

/// What the engine needs to know of a request. Decodes its image and finds the codes to keep, which
/// takes up to a second.
///
/// Without a seed, a random one of 32 bits; without a prompt, the first caption in the model's
/// config.
///
/// @param client  as in GenerationRequest
/// @throws ApiError naming the field whose value the model cannot use
GenerationRequest generation_request(const ImageFields& fields, const TrainedDalle& dalle,
                                     const std::string& client);

/// A seed of 32 bits, which JavaScript and others keep exactly.
int64_t random_seed();

}  // namespace dalle
