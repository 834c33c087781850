#pragma once

#include <string>

#include "experiment/trained/trained_dalle.h"
#include "serve/engine/engine_request.h"
#include "serve/image_fields.h"

namespace dalle {

/// Images of a request may have as many pixels, whatever their size is after scaling.
inline constexpr int64_t kMostPromptPixels = int64_t{4096} * 4096;

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

/// The settings of the model's config, with those that the request replaces.
/// @throws ApiError naming the field
SamplingConfig requested_sampling(const SamplingOverrides& overrides, const TrainedDalle& dalle);

}  // namespace dalle
