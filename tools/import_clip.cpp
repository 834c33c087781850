#include "import_clip.h"

#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "checkpoint/checkpoint_files.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/text/clip_tokenizer.h"
#include "experiment/config/experiment_config.h"
#include "model/released_clip.h"
#include "staging_folder.h"
#include "tensor/named_tensors.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const fs::path& file) {
  json content = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!content.is_object()) throw Error("{}: not a JSON object", file.string());
  return content;
}

bool has_object(const json& config, const char* key) {
  return config.contains(key) && config.at(key).is_object();
}

/// A number of a part of a config, which may lack it.
int64_t number_in(const fs::path& file, const json& config, const char* part,
                  const std::string& key, int64_t value_if_absent) {
  const json number = config.at(part).value(key, json(value_if_absent));
  if (!number.is_number_integer() || number < 1)
    throw Error("{}: {}.{}: found {}, expected an integer of at least 1", file.string(), part, key,
                number.dump());
  return number.get<int64_t>();
}

/// What config.json of transformers says: hidden_act, layer_norm_eps and num_attention_heads of
/// text_config and vision_config. Absent keys have the defaults of transformers' CLIPTextConfig and
/// CLIPVisionConfig. An activation that is already known is kept.
void read_transformers_config(const fs::path& file, const json& config,
                              ReleasedClipOptions& options) {
  const bool has_activation = options.activation.has_value();
  for (const char* name : {"text_config", "vision_config"}) {
    if (!has_object(config, name)) continue;
    const json& part = config.at(name);
    const bool is_text = std::string_view(name) == "text_config";
    (is_text ? options.text_heads : options.image_heads) =
        number_in(file, config, name, "num_attention_heads", is_text ? 8 : 12);
    if (const json epsilon = part.value("layer_norm_eps", json(1e-5)); epsilon != 1e-5)
      throw Error("{}: {}.layer_norm_eps: found {}, expected 1e-05", file.string(), name,
                  epsilon.dump());
    if (has_activation) continue;
    const json act = part.value("hidden_act", json("quick_gelu"));
    const auto activation =
        act.is_string() ? find_enum<Activation>(act.get<std::string>()) : std::nullopt;
    if (!activation || activation != options.activation.value_or(*activation))
      throw Error("{}: {}.hidden_act: found {}, expected gelu or quick_gelu, as in the other part",
                  file.string(), name, act.dump());
    options.activation = activation;
  }
}

/// What open_clip_config.json of OpenCLIP says: quick_gelu, and the heads. Absent keys have
/// OpenCLIP's defaults. An activation that is already known is kept.
void read_openclip_config(const fs::path& file, ReleasedClipOptions& options) {
  const json config = read_json(file);
  const json model = config.value("model_cfg", config);
  if (!model.is_object()) throw Error("{}: model_cfg: expected a JSON object", file.string());
  const json quick = model.value("quick_gelu", json(false));
  if (!quick.is_boolean())
    throw Error("{}: quick_gelu: found {}, expected true or false", file.string(), quick.dump());
  if (!options.activation)
    options.activation = quick == true ? Activation::kQuickGelu : Activation::kGelu;
  if (has_object(model, "text_cfg"))
    options.text_heads = number_in(file, model, "text_cfg", "heads", 8);
  if (!has_object(model, "vision_cfg")) return;
  const int64_t width = number_in(file, model, "vision_cfg", "width", 768);
  const int64_t head_width = number_in(file, model, "vision_cfg", "head_width", 64);
  if (width % head_width != 0)
    throw Error("{}: vision_cfg.head_width: found {}, expected a divisor of the width, {}",
                file.string(), head_width, width);
  options.image_heads = width / head_width;
}

/// What the files next to the weights say. A config.json may also be of another library, such as
/// timm's next to weights of OpenCLIP, so its content decides.
void read_config(const fs::path& folder, ReleasedClipOptions& options) {
  if (const fs::path file = folder / "config.json"; fs::exists(file))
    if (const json config = read_json(file);
        has_object(config, "text_config") || has_object(config, "vision_config")) {
      read_transformers_config(file, config, options);
      return;
    }
  if (const fs::path file = folder / "open_clip_config.json"; fs::exists(file))
    read_openclip_config(file, options);
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
  files.vocab_size =
      prefix_errors(fmt::format("{} and {}", vocabulary.string(), merges.string()),
                    [&] { return ClipTokenizer(files.vocabulary, files.merges).vocab_size(); });
  return files;
}

/// What the checkpoint says of the model. The rest are defaults, which nothing reads.
std::string config_text(const ReleasedClip& clip, const fs::path& source) {
  ExperimentConfig config;
  config.name = "clip";
  config.data.image_size = clip.image_size;
  config.clip.emplace().model = clip.model->config();
  // A config is invalid if its dVAE cannot divide the image into a grid of codes.
  int64_t& groups = config.dvae.model.groups;
  while (clip.image_size % (int64_t{1} << (groups - 1)) != 0) --groups;
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
         "it gives the activation and the number of heads; without one, each head has 64 channels")
      ->required();
  app.add_option("--vocab", options.vocabulary,
                 "vocab.json of the tokenizer; default: the one next to the weights");
  app.add_option("--merges", options.merges,
                 "merges.txt of the tokenizer; default: the one next to the weights");
  app.add_option("--out", options.out, "folder of the new checkpoint; must not exist")->required();
  add_enum_option<Activation>(
      app, "--activation", options.activation,
      "quick_gelu or gelu; default: that of the config next to the weights, or else quick_gelu for "
      "transformers' tensor names, gelu for OpenCLIP's");
}

int import_clip(const ClipImport& options) {
  const fs::path out = checked_out(options.out);
  const TokenizerFiles tokenizer = read_tokenizer(options);
  ReleasedClipOptions facts;
  facts.activation = options.activation;
  read_config(options.weights.parent_path(), facts);
  facts.text_vocab_size = tokenizer.vocab_size;
  const ReleasedClip clip = read_released_clip(options.weights, facts);
  const ClipConfig& model = clip.model->config();
  if (!facts.activation)
    log_warning(
        "{}: found no CLIP config (config.json or open_clip_config.json) next to it; assuming {} "
        "(override with --activation)",
        options.weights.string(), to_string(model.activation));
  const auto warn_of_heads = [&](const char* transformer, int64_t heads) {
    log_warning(
        "{}: no CLIP config next to it gives the number of heads of the {} transformer; assuming "
        "{}, of 64 channels each",
        options.weights.string(), transformer, heads);
  };
  if (!facts.image_heads) warn_of_heads("image", model.image_heads);
  if (!facts.text_heads) warn_of_heads("text", model.text_heads);
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
