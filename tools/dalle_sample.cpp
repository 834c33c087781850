// dalle-sample: generates images from captions with a trained DALL-E.

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command_line.h"
#include "core/ascii.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/stop_signal.h"
#include "core/utf8.h"
#include "data/image/image.h"
#include "experiment/trained/trained_dalle.h"
#include "generation_options.h"
#include "prompt_options.h"
#include "rerank_options.h"
#include "sample/generate_codes.h"
#include "sample/grid_file.h"
#include "sample/image_prompt.h"
#include "sample/sample_files.h"
#include "sample_writer.h"

namespace {

using namespace dalle;
namespace fs = std::filesystem;

/// CLI11 splits a caption in [brackets] into a list, so main() puts this character in front of all
/// arguments that begin with a bracket, and each option removes it from its values.
constexpr char kBracketMark = '\x1f';

std::string without_mark(const std::string& argument) {
  return argument.starts_with(kBracketMark) ? argument.substr(1) : argument;
}

struct Arguments {
  std::vector<std::string> captions;
  std::string model;
  std::string out = "samples";
  std::string grid;
  std::string format = "png";
  std::string device = "auto";
  std::optional<int64_t> count;
  int64_t seed = 1;
  SamplingOverrides sampling;
  PromptOptions prompt;
  RerankOptions rerank;
  DecodeOptions decode;
};

std::string check_format(const std::string& name) {
  return find_image_format(name) ? "" : fmt::format("found {}, expected png, jpg or webp", name);
}

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("captions", arguments.captions,
                 "text to generate images from; each argument is one caption");
  app.add_option("--model", arguments.model,
                 fmt::format("run folder, checkpoint, or the file latest or best of a stage; {}",
                             kDefaultModel));
  app.add_option(
         "--count", arguments.count,
         "images per caption; default: sample.count of the model's config, at most --best-of")
      ->transform(whole_number(1, 100'000));
  app.add_option("--seed", arguments.seed,
                 "random seed; the same seed, caption and model give the same images")
      ->transform(whole_number(0))
      ->capture_default_str();
  add_sampling_options(app, arguments.sampling);
  add_prompt_options(app, arguments.prompt);
  add_rerank_options(app, arguments.rerank);
  add_decode_options(app, arguments.decode);
  app.add_option("--out", arguments.out, "folder for the images")->capture_default_str();
  app.add_option("--grid", arguments.grid,
                 "also write all images into one file (.png, .jpg or .webp), one row per caption");
  app.add_option("--format", arguments.format, "png, jpg or webp")
      ->check(check_format)
      ->capture_default_str();
  add_device_option(app, arguments.device);
  for (CLI::Option* option : app.get_options()) option->transform(without_mark);
}

void check_captions(const std::vector<std::string>& captions) {
  for (const std::string& caption : captions) {
    if (is_blank(caption)) throw Error("caption {:?}: empty, expected words", caption);
    if (const size_t byte = first_invalid_utf8(caption); byte < caption.size())
      throw Error("caption {:?}: byte {} is invalid, expected UTF-8", caption, byte);
  }
}

/// The image files of each distinct caption, by caption.
std::map<std::string, SampleFiles> open_files(const TrainedDalle& dalle, const Arguments& arguments,
                                              const SamplingConfig& sampling,
                                              const std::optional<Prompt>& prompt) {
  const ImageFormat format = *find_image_format(arguments.format);
  std::map<std::string, SampleFiles> files;
  for (const std::string& caption : arguments.captions) {
    const ImageRequest request{
        .caption = caption,
        .seed = arguments.seed,
        .sampling = sampling,
        .model = dalle.hash,
        .step = dalle.step,
        .image_prompt = prompt ? prompt->description : nlohmann::ordered_json()};
    files.try_emplace(caption, arguments.out, request, dalle.config.sample, format);
  }
  return files;
}

std::vector<CaptionImages> requests_of(const TrainedDalle& dalle, const Arguments& arguments,
                                       int64_t count, const std::optional<Prompt>& prompt) {
  std::vector<CaptionImages> requests;
  for (const std::string& caption : arguments.captions) {
    requests.push_back({.caption = caption_tokens(dalle, caption), .count = count});
    if (!prompt) continue;
    requests.back().forced = prompt->parts.forced;
    requests.back().variation = prompt->parts.variation;
  }
  return requests;
}

/// Generates the images of all captions together.
void generate_all(const TrainedDalle& dalle, const std::vector<CaptionImages>& requests,
                  const SamplingConfig& sampling, const Arguments& arguments,
                  const StopSignal& stop, SampleWriter& writer) {
  Progress progress("generating image tokens", static_cast<int64_t>(requests.size()) *
                                                   requests.front().count *
                                                   dalle.config.layout().image_length());
  try {
    generate_codes(
        dalle.model, requests, sampling,
        {.seed = static_cast<uint64_t>(arguments.seed),
         .batch_size = arguments.decode.batch_size.value_or(0),
         .decode = override_decoding(dalle.config.sample, arguments.decode)},
        [&](size_t request, int64_t number, const at::Tensor& codes) {
          writer.add(request, number, codes);
        },
        [&](int64_t codes, int64_t) {
          if (stop.requested()) throw StopRequested();
          progress.update(codes);
        });
  } catch (const StopRequested&) {
  } catch (...) {
    writer.finish();
    throw;
  }
  writer.finish();
}

/// Logs what was written.
/// @param images  number that were to be generated
/// @return        the exit status
int report_images(const SampleWriter& writer, int64_t images, const Arguments& arguments,
                  const StopSignal& stop) {
  const int64_t generated = writer.added(), written = writer.written();
  if (generated == images) {
    log_info("wrote {} image{} to {}", written, written == 1 ? "" : "s", arguments.out);
    return 0;
  }
  const std::string kept =
      written == generated ? "" : fmt::format("were generated, {} of them ", written);
  log_info("stopped: {} of {} images {}are in {}{}", generated, images, kept, arguments.out,
           arguments.grid.empty() ? "" : "; the grid was not written");
  return 128 + stop.number();
}

int sample(const Arguments& arguments) {
  if (arguments.captions.empty()) {
    log_error(
        "no caption given; expected e.g. dalle-sample \"a red circle\" (--help lists the options)");
    return kExitUsage;
  }
  if (!arguments.prompt.image.empty() && !arguments.prompt.names_what_to_keep()) {
    log_error("--image requires --keep-rows, --keep, --mask or --variation");
    return kExitUsage;
  }
  check_captions(arguments.captions);
  const c10::Device device = find_device(arguments.device);
  const fs::path path = find_model(arguments.model);
  make_directories(arguments.out);
  check_can_write(fs::path(arguments.out) / "image.png");
  std::optional<GridFile> grid;
  if (!arguments.grid.empty()) grid.emplace(arguments.grid);
  const TrainedDalle dalle = load_trained_dalle(path, device);
  log_info("generating with {} (step {})", dalle.checkpoint.string(), dalle.step);
  const auto captions = static_cast<int64_t>(arguments.captions.size());
  const int64_t usual = dalle.config.sample.count;
  const int64_t count =
      arguments.count.value_or(std::min(usual, arguments.rerank.best_of.value_or(usual)));
  std::optional<Prompt> prompt;
  if (!arguments.prompt.image.empty()) prompt = load_prompt(arguments.prompt, dalle);
  const std::unique_ptr<Reranker> reranker = load_reranker(arguments.rerank, dalle, count, device);
  if (grid) grid->allocate(captions, count, dalle.config.data.image_size);

  const StopSignal stop;
  const int64_t images = arguments.rerank.best_of.value_or(count);
  const SamplingConfig sampling = override_sampling(dalle.config.sample, arguments.sampling);
  warn_of_untrained_guidance(dalle.config, sampling);
  SampleWriter writer(dalle,
                      {.captions = arguments.captions,
                       .files = open_files(dalle, arguments, sampling, prompt),
                       .images = images,
                       .count = count,
                       .reranker = reranker.get(),
                       .keep_all = arguments.rerank.keep_all,
                       .grid = grid ? &*grid : nullptr,
                       .pasted = arguments.prompt.paste_original ? &prompt->parts : nullptr});
  generate_all(dalle, requests_of(dalle, arguments, images, prompt), sampling, arguments, stop,
               writer);
  if (grid && writer.added() == captions * images) grid->write();
  return report_images(writer, captions * images, arguments, stop);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Generates images from captions with a trained DALL-E.", "dalle-sample");
  Arguments arguments;
  add_options(app, arguments);
  std::vector<std::string> texts(argv, argv + argc);
  std::vector<char*> marked;
  for (std::string& text : texts) {
    if (text.starts_with('[')) text.insert(0, 1, kBracketMark);
    marked.push_back(text.data());
  }
  const ToolText text{
      .examples =
          "  dalle-sample \"a red circle\" \"a blue square\" --count 8 --grid grid.png\n"
          "  dalle-sample \"a red circle\" --model runs/shapes-demo --temperature 0.8 --seed 7\n"
          "  dalle-sample \"a red circle\" --best-of 64 --count 4\n"
          "  dalle-sample \"the same house at night\" --image house.png --keep-rows 0.5 --guidance "
          "3\n",
      .memory_advice =
          "lower --batch-size (with --grid, also use fewer images), use a smaller model, or "
          "close other programs"};
  dalle::run_tool(app, argc, marked.data(), text, [&] { return sample(arguments); });
}
