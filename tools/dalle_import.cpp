// dalle-import: makes a checkpoint of a model that others trained.

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_files.h"
#include "command_line.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/log.h"
#include "experiment/config/experiment_config.h"
#include "import_clip.h"
#include "model/released_dvae.h"
#include "staging_folder.h"
#include "tensor/named_tensors.h"

namespace {

using namespace dalle;
namespace fs = std::filesystem;

struct Arguments {
  std::vector<fs::path> files;
  fs::path out;
  std::vector<std::string> overrides;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("files", arguments.files,
                 "encoder.pkl and decoder.pkl: modules or state dicts that torch.save() wrote, or "
                 "safetensors files; one file may hold both")
      ->required()
      ->expected(1, 2);
  app.add_option("--out", arguments.out, "folder of the new checkpoint; must not exist")
      ->required();
  app.add_option("--set", arguments.overrides,
                 "set a key of the checkpoint's config, such as the data that dalle-eval measures "
                 "it on: --set data.path=my-images; repeatable")
      ->allow_extra_args(false);
}

/// What the checkpoint says of the dVAE: its shape, and the defaults, which are the published
/// model's training.
ExperimentConfig config_of(const DiscreteVaeConfig& model, const Arguments& arguments) {
  ExperimentConfig config;
  config.name = "openai-dvae";
  config.dvae.model = model;
  const auto changed = load_config_text<ExperimentConfig>(
      dump_config(config), arguments.files.front().string(), arguments.overrides);
  for (const auto& [key, old_value, new_value] : diff_configs(config, changed))
    if (key.starts_with("dvae.") && !key.starts_with("dvae.train."))
      throw Error("--set {}: found {}, expected {}, which follows from the files", key, new_value,
                  old_value);
  return changed;
}

int import_dvae(Arguments arguments) {
  arguments.out = checked_out(arguments.out);
  const DiscreteVae vae = read_released_dvae(arguments.files);
  const ExperimentConfig config = config_of(vae->config(), arguments);
  write_new_checkpoint(arguments.out, {.tensors = {{kEmaTensors, weights_of(*vae)}},
                                       .files = {{kConfigFile, dump_config(config)}}});
  const DiscreteVaeConfig& model = vae->config();
  log_info("wrote {}: {} groups of {} blocks, {} channels, {} codes of width {}",
           arguments.out.string(), model.groups, model.blocks_per_group, model.hidden,
           model.vocab_size, model.codebook_width);
  log_info("train on its codes with: dalle-train --config ... --set dvae.checkpoint={}",
           arguments.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Converts a model trained elsewhere to a checkpoint. No code in its files is executed.",
      "dalle-import");
  Arguments arguments;
  ClipImport clip;
  app.require_subcommand(1);
  add_options(
      *app.add_subcommand("openai-dvae",
                          "the dVAE that OpenAI released, or another dVAE of the same classes"),
      arguments);
  CLI::App* const of_clip = app.add_subcommand(
      "clip",
      "a CLIP model with a vision transformer, such as ViT-B/32: it ranks generated images");
  add_clip_options(*of_clip, clip);
  const ToolText text{
      .examples =
          "  dalle-import openai-dvae encoder.pkl decoder.pkl --out models/openai-dvae\n"
          "  dalle-import openai-dvae flava/pytorch_model.bin decoder.pkl --out models/dvae\n"
          "  dalle-import clip clip-vit-base-patch32/pytorch_model.bin --out models/clip\n"
          "  dalle-sample \"a red apple\" --best-of 64 --count 4 --reranker models/clip\n",
      .memory_advice = "close other programs"};
  dalle::run_tool(app, argc, argv, text,
                  [&] { return of_clip->parsed() ? import_clip(clip) : import_dvae(arguments); });
}
