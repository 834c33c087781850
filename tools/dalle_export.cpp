// dalle-export: writes a trained model in the format of other tools.

#include <filesystem>
#include <iterator>
#include <string>

#include "command_line.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "experiment/evaluation/evaluated_model.h"
#include "experiment/trained/hub_export.h"
#include "experiment/trained/trained_dalle.h"
#include "staging_folder.h"
#include "train/run_folder.h"

namespace {

using namespace dalle;
namespace fs = std::filesystem;

struct Arguments {
  std::string model;
  std::string format = "hf";
  fs::path out;
  int64_t max_shard_mb = kHubShardBytes / 1'000'000;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--model", arguments.model,
                 fmt::format("run folder or checkpoint; {}", kDefaultModel));
  app.add_option("--format", arguments.format,
                 "hf: a folder for the Hugging Face hub, with config.json, safetensors and a model "
                 "card")
      ->check(CLI::IsMember({"hf"}))
      ->capture_default_str();
  app.add_option("--out", arguments.out, "folder to write; must be new or empty")->required();
  app.add_option(
         "--max-shard-mb", arguments.max_shard_mb,
         "maximum size of a safetensors file in megabytes; larger models are split into shards")
      ->transform(whole_number(1, 1'000'000'000))
      ->capture_default_str();
}

void check_is_free(const fs::path& out) {
  std::string found;
  if (out.filename() == "." || out.filename() == "..")
    found = "the current folder or one above it";  // which cannot be replaced
  else if (fs::is_symlink(out))
    found = "a symbolic link";
  else if (fs::exists(out) && !fs::is_directory(out))
    found = "a file";
  else if (fs::exists(out) && !fs::is_empty(out))
    found = fmt::format("a folder with {} entries",
                        std::distance(fs::directory_iterator(out), fs::directory_iterator()));
  if (!found.empty())
    throw Error("--out {}: found {}, expected a new or an empty folder", out.string(), found);
}

int export_model(const Arguments& arguments) {
  const fs::path out = without_trailing_slash(arguments.out.lexically_normal());
  check_is_free(out);
  const fs::path path = find_model(arguments.model);
  const StagingFolder staging(out);
  const TrainedDalle dalle = load_trained_dalle(path, c10::kCPU, Precision::kFloat32);
  const fs::path folder = staging.path() / "model";
  make_directories(folder);
  write_hub_files(dalle, RunPaths(run_of_model(path)), folder, arguments.max_shard_mb * 1'000'000);
  flush_to_disk(folder);
  move_into_place(folder, out);
  log_info("wrote {}, from {} (step {})", out.string(), dalle.checkpoint.string(), dalle.step);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes a trained model in the format of other tools.", "dalle-export");
  Arguments arguments;
  add_options(app, arguments);
  const ToolText text{
      .examples =
          "  dalle-export --model runs/shapes-demo --out export/shapes-demo\n"
          "  dalle-export --model runs/x/checkpoints/dalle/best --format hf --out export/x\n",
      .memory_advice = "close other programs"};
  dalle::run_tool(app, argc, argv, text, [&] { return export_model(arguments); });
}
