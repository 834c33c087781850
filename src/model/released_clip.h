#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "model/clip_model.h"

namespace dalle {

/// What the tensors of a CLIP model do not say.
struct ReleasedClipOptions {
  int64_t text_vocab_size = 0;           ///< tokens without start-of-text and end-of-text
  std::optional<Activation> activation;  ///< none: quick_gelu with transformers' names, else gelu
  std::optional<int64_t> image_heads;    ///< nothing: heads of 64 channels
  std::optional<int64_t> text_heads;     ///< likewise
};

/// A CLIP model trained by others, and the size of the square images that it reads.
struct ReleasedClip {
  ClipModel model;
  int64_t image_size;
};

/// Reads a CLIP model with a vision transformer, such as ViT-B/32, ViT-B/16 and ViT-L/14.
///
/// @param file  of any kind that read_foreign_tensors() reads, with the names of transformers'
///              CLIPModel (vision_model.embeddings.patch_embedding.weight) or of OpenAI's code and
///              OpenCLIP (visual.conv1.weight)
/// @return      in float32; its config follows from the shapes and the options
/// @throws dalle::Error naming the file, the first tensor that is missing, unexpected, or not
///         floating point of the expected shape, and what was found and expected
/// Source: openai/CLIP, clip/model.py; transformers 5, models/clip/modeling_clip.py
ReleasedClip read_released_clip(const std::filesystem::path& file,
                                const ReleasedClipOptions& options);

}  // namespace dalle
