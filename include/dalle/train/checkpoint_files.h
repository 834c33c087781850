#pragma once

namespace dalle {

/// What the files of a stage's checkpoint are called; tensors have ".safetensors" behind the name.
inline constexpr const char* kWeightsTensors = "weights";
inline constexpr const char* kAverageTensors =
    "average";  ///< the weights that evaluation and sampling use
inline constexpr const char* kFirstMomentTensors = "first_moment";
inline constexpr const char* kSecondMomentTensors = "second_moment";
inline constexpr const char* kDvaeTensors = "dvae";  ///< the frozen dVAE of a DALL-E checkpoint
inline constexpr const char* kTrainerFile = "trainer.json";
inline constexpr const char* kConfigFile = "config.yaml";
inline constexpr const char* kTokenizerFile = "tokenizer.model";

}  // namespace dalle
