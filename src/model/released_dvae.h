#pragma once

#include <filesystem>
#include <span>

#include "model/discrete_vae.h"

namespace dalle {

/// Reads OpenAI's released dVAE, or one of the same classes with another size.
///
/// @param files  its encoder and its decoder, in one file or in two, of any kind that
///               read_foreign_tensors() reads. Tensors have the names of the released code or, for
///               the encoder, those of facebook/flava-image-codebook; `encoder.` or `decoder.` may
///               precede them
/// @return       in float32; its config follows from the shapes, and from the modules' post_gain
/// @throws dalle::Error naming the file, and each tensor that is missing, unexpected or of the
///         wrong shape
/// Source: openai/DALL-E, dall_e/encoder.py and decoder.py; transformers,
///         models/flava/convert_dalle_to_flava_codebook.py
DiscreteVae read_released_dvae(std::span<const std::filesystem::path> files);

}  // namespace dalle
