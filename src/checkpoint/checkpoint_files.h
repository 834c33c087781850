#pragma once

#include <filesystem>
#include <string>

namespace dalle {

/// The file names in a stage's checkpoint; those of tensors are followed by ".safetensors".
inline constexpr const char* kWeightsTensors = "weights";
inline constexpr const char* kEmaTensors = "ema";  ///< the weights that evaluation and sampling use
inline constexpr const char* kFormerEmaTensors = "average";  ///< their name before version 0.2
inline constexpr const char* kFirstMomentTensors = "first_moment";
inline constexpr const char* kSecondMomentTensors = "second_moment";
inline constexpr const char* kTaskTensors = "task_state";  ///< see TrainTask::state()
inline constexpr const char* kDvaeTensors = "dvae";  ///< the frozen dVAE of a DALL-E checkpoint
inline constexpr const char* kTrainerFile = "trainer.json";
inline constexpr const char* kConfigFile = "config.yaml";
inline constexpr const char* kTokenizerFile = "tokenizer.model";
// The tokenizer of an imported contrastive model, in place of tokenizer.model:
inline constexpr const char* kClipVocabularyFile = "vocab.json";
inline constexpr const char* kClipMergesFile = "merges.txt";

/// The file that holds the tensors called `name`; before version 0.2, the EMA's had another name.
inline std::filesystem::path tensors_file(const std::filesystem::path& checkpoint,
                                          const std::string& name) {
  const auto file = checkpoint / (name + ".safetensors");
  const bool is_former = name == kEmaTensors && !std::filesystem::exists(file);
  return is_former ? checkpoint / (std::string(kFormerEmaTensors) + ".safetensors") : file;
}

}  // namespace dalle
