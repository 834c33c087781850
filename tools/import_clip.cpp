#include "import_clip.h"

#include <optional>
#include <string_view>

#include "checkpoint/checkpoint_files.h"
#include "core/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/text/clip_tokenizer.h"
#include "experiment/experiment_config.h"
#include "model/released_clip.h"
#include "new_checkpoint.h"
#include "tensor/named_tensors.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::optional<Activation> find_activation(std::string_view name) {
  for (const auto& [activation, known] : enum_names(Activation{}))
    if (known == name) return activation;
  return std::nullopt;
}

json read_json(const fs::path& file) {
  json content = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!content.is_object()) throw Error("{}: not a JSON object", file.string());
  return content;
}

/// A number of a config; nothing if it has none.
std::optional<int64_t> number_in(const fs::path& file, const json& part, const std::string& key) {
  if (!part.is_object() || !part.contains(key)) return std::nullopt;
  if (!part.at(key).is_number_integer() || part.at(key) < 1)
    throw Error("{}: {}: found {}, expected a number of at least 1", file.string(), key,
                part.at(key).dump());
  return part.at(key).get<int64_t>();
}

/// What config.json of transformers says: hidden_act, layer_norm_eps and num_attention_heads of
/// text_config and vision_config.
void read_transformers_config(const fs::path& file, ReleasedClipOptions& options) {
  const json config = read_json(file);
  for (const std::string name : {"text_config", "vision_config"}) {
    const json part = config.value(name, json::object());
    const auto heads = number_in(file, part, "num_attention_heads");
    (name == "text_config" ? options.text_heads : options.image_heads) = heads;
    if (!part.is_object()) continue;
    if (const json epsilon = part.value("layer_norm_eps", json(1e-5)); epsilon != 1e-5)
      throw Error("{}: {}.layer_norm_eps: found {}, expected 1e-05", file.string(), name,
                  epsilon.dump());
    if (!part.contains("hidden_act")) continue;
    const json& act = part.at("hidden_act");
    const auto activation =
        act.is_string() ? find_activation(act.get<std::string>()) : std::nullopt;
    if (!activation || activation != options.activation.value_or(*activation))
      throw Error("{}: {}.hidden_act: found {}, expected gelu or quick_gelu, as in the other part",
                  file.string(), name, act.dump());
    options.activation = activation;
  }
}

/// What open_clip_config.json of OpenCLIP says: quick_gelu, and the heads.
void read_openclip_config(const fs::path& file, ReleasedClipOptions& options) {
  const json config = read_json(file);
  const json model = config.value("model_cfg", config);
  if (!model.is_object()) throw Error("{}: model_cfg: expected a JSON object", file.string());
  const json quick = model.value("quick_gelu", json(false));
  options.activation = quick == true ? Activation::kQuickGelu : Activation::kGelu;
  options.text_heads = number_in(file, model.value("text_cfg", json()), "heads");
  const json image = model.value("vision_cfg", json());
  const auto width = number_in(file, image, "width");
  const auto head_width = number_in(file, image, "head_width");
  if (width && head_width) options.image_heads = *width / *head_width;
}

/// What the files next to the weights say; the first of them that there is.
/// @return  whether there is one
bool read_config(const fs::path& folder, ReleasedClipOptions& options) {
  if (const fs::path file = folder / "config.json"; fs::exists(file))
    read_transformers_config(file, options);
  else if (const fs::path other = folder / "open_clip_config.json"; fs::exists(other))
    read_openclip_config(other, options);
  else
    return false;
  return true;
}

struct TokenizerFiles {
  std::string vocabulary, merges;  ///< their bytes
  int64_t vocab_size;
};

TokenizerFiles read_tokenizer(const ClipImport& options) {
  const fs::path folder = options.weights.parent_path();
  const fs::path vocabulary =
      options.vocabulary.empty() ? folder / kClipVocabularyFile : options.vocabulary;
  const fs::path merges = options.merges.empty() ? folder / kClipMergesFile : options.merges;
  TokenizerFiles files{
      .vocabulary = read_file(vocabulary), .merges = read_file(merges), .vocab_size = 0};
  try {
    files.vocab_size = ClipTokenizer(files.vocabulary, files.merges).vocab_size();
  } catch (const Error& error) {
    throw Error("{} and {}: {}", vocabulary.string(), merges.string(), error.what());
  }
  return files;
}

/// What the checkpoint says of the model. The rest are defaults, of a training that never was.
std::string config_text(const ReleasedClip& clip, const fs::path& source) {
  ExperimentConfig config;
  config.name = "clip";
  config.data.image_size = clip.image_size;
  config.clip.emplace().model = clip.model->config();
  const std::string text = dump_config(config);
  load_config_text<ExperimentConfig>(text, source.string());  // names sizes that are out of range
  return text;
}

}  // namespace

void add_clip_options(CLI::App& app, ClipImport& options) {
  app.add_option(
         "weights", options.weights,
         "model.safetensors or pytorch_model.bin, with the names of transformers' CLIPModel "
         "or of OpenAI's code and OpenCLIP. A config.json or open_clip_config.json next to "
         "it says the activation and the numbers of heads; else heads have 64 channels")
      ->required();
  app.add_option("--vocab", options.vocabulary,
                 "vocab.json of the tokenizer; default: the one next to the weights");
  app.add_option("--merges", options.merges,
                 "merges.txt of the tokenizer; default: the one next to the weights");
  app.add_option("--out", options.out, "folder of the new checkpoint; must not exist")->required();
  app.add_option("--activation", options.activation,
                 "quick_gelu or gelu; default: that of the config next to the weights, or else "
                 "quick_gelu by transformers' names and gelu by OpenCLIP's")
      ->check(CLI::IsMember({"quick_gelu", "gelu"}));
}

int import_clip(const ClipImport& options) {
  const fs::path out = checked_out(options.out);
  const TokenizerFiles tokenizer = read_tokenizer(options);
  ReleasedClipOptions facts;
  const bool has_config = read_config(options.weights.parent_path(), facts);
  if (!options.activation.empty()) facts.activation = find_activation(options.activation);
  facts.text_vocab_size = tokenizer.vocab_size;
  const ReleasedClip clip = read_released_clip(options.weights, facts);
  const ClipConfig& model = clip.model->config();
  if (!has_config && options.activation.empty())
    log_warning(
        "{}: found no config.json next to it, so its activation is taken to be {}; --activation "
        "says otherwise",
        options.weights.string(), to_string(model.activation));
  write_new_checkpoint(out, {.tensors = {{kEmaTensors, weights_of(*clip.model)}},
                             .files = {{kConfigFile, config_text(clip, options.weights)},
                                       {kClipVocabularyFile, tokenizer.vocabulary},
                                       {kClipMergesFile, tokenizer.merges}}});
  log_info(
      "wrote {}: reads images of {} x {} pixels in patches of {}, {} layers of {} heads and width "
      "{}; {} text positions, {} layers of {} heads and width {}; {}; embeddings of {}",
      out.string(), clip.image_size, clip.image_size, model.patch_size, model.image_depth,
      model.image_heads, model.image_width, model.text_length, model.text_depth, model.text_heads,
      model.text_width, to_string(model.activation), model.embed_dim);
  log_info("rank images with: dalle-sample ... --best-of 64 --count 4 --reranker {}", out.string());
  return 0;
}

}  // namespace dalle
