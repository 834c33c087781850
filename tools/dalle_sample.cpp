// dalle-sample: generates images from captions with a trained DALL-E.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/is_blank.h"
#include "dalle/core/log.h"
#include "dalle/core/progress.h"
#include "dalle/core/strict_number.h"
#include "dalle/core/utf8.h"
#include "dalle/data/image.h"
#include "dalle/sample/image_generator.h"
#include "dalle/sample/image_grid.h"
#include "dalle/train/stop_signal.h"
#include "dalle/train/trained_dalle.h"

#include "command_line.h"
#include "sample_files.h"

namespace {

using namespace dalle;
namespace fs = std::filesystem;

/// CLI11 takes a caption in [brackets] for a list, unless something is in front of it: main() marks
/// all arguments that begin so.
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
  int64_t batch_size = kImagesAtOnce;
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
};

std::string check_format(const std::string& name) {
  return find_picture_format(name) ? "" : fmt::format("found {}, expected png, jpg or webp", name);
}

/// The one bound that no range of a config key expresses.
std::string check_top_p(const std::string& text) {
  return parse_number(text) == 0.0 ? fmt::format("found {}, expected more than 0", text) : "";
}

/// The range of a key of the config.
Field sampling_field(std::string_view name) {
  SamplingConfig config;
  Field found;
  SamplingConfig::fields(config, [&](std::string_view key, auto&, const Field& field) {
    if (key == name) found = field;
  });
  return found;
}

void add_options(CLI::App& app, Arguments& arguments) {
  const Field temperature = sampling_field("temperature"), top_p = sampling_field("top_p");
  app.add_option("captions", arguments.captions, "what to generate; each argument is a caption")
      ->transform(without_mark);
  app.add_option("--model", arguments.model,
                 "run folder, checkpoint, or the file latest or best of a stage; default: "
                 "$DALLE_MODEL, or else the most recently finished run under runs/")
      ->transform(without_mark);
  app.add_option("--count", arguments.count, "images per caption; default: the config's")
      ->transform(whole_number(1, 100'000));
  app.add_option("--seed", arguments.seed, "random seed; image i of a seed is always the same")
      ->transform(whole_number(0))
      ->capture_default_str();
  app.add_option("--temperature", arguments.temperature,
                 "divides the logits; 0 takes the most likely code; default: the config's")
      ->transform(number(temperature.min, temperature.max));
  app.add_option("--top-k", arguments.top_k, "sample from the k most likely codes; 0 means all")
      ->transform(whole_number(0));
  app.add_option("--top-p", arguments.top_p,
                 "sample from the fewest codes whose total probability reaches p")
      ->transform(number(top_p.min, top_p.max))
      ->check(check_top_p);
  app.add_option(
         "--batch-size", arguments.batch_size,
         "accepted for compatibility and ignored: images are always generated 12 at a time, so "
         "that none depends on it")
      ->transform(whole_number(1, 4096));
  app.add_option("--out", arguments.out, "folder for the images")
      ->transform(without_mark)
      ->capture_default_str();
  app.add_option("--grid", arguments.grid,
                 "also write all images into one file (.png, .jpg or .webp), one row per caption")
      ->transform(without_mark);
  app.add_option("--format", arguments.format, "png, jpg or webp")
      ->check(check_format)
      ->capture_default_str();
  add_device_option(app, arguments.device);
}

fs::path find_model(const std::string& argument) {
  if (!argument.empty()) return argument;
  if (const char* variable = std::getenv("DALLE_MODEL"); variable != nullptr && *variable != '\0')
    return variable;
  return newest_finished_run("runs");
}

void check_captions(const std::vector<std::string>& captions) {
  for (const std::string& caption : captions) {
    if (is_blank(caption)) throw Error("caption {:?}: empty, expected words", caption);
    if (const size_t place = first_invalid_utf8(caption); place < caption.size())
      throw Error("caption {:?}: byte {} is invalid, expected UTF-8", caption, place);
  }
}

/// The config's sampling with what the options say.
SamplingConfig sampling_config(const Arguments& arguments, SamplingConfig sampling) {
  sampling.temperature = arguments.temperature.value_or(sampling.temperature);
  sampling.top_k = arguments.top_k.value_or(sampling.top_k);
  sampling.top_p = arguments.top_p.value_or(sampling.top_p);
  return sampling;
}

/// The grid of all images, in its file once all are there.
class GridFile {
 public:
  /// @throws dalle::Error if the name has no known extension, or nothing can be written there
  explicit GridFile(const fs::path& path) : path_(path) {
    const std::string extension = path.extension().string();
    const auto format = find_picture_format(extension.substr(extension.empty() ? 0 : 1));
    if (!format)
      throw Error("--grid {}: expected a file name that ends in .png, .jpg or .webp",
                  path.string());
    format_ = *format;
    if (path.has_parent_path()) make_directories(path.parent_path());
    check_can_write(path);
  }

  /// @throws dalle::Error if the format cannot hold so many images
  void allocate(int64_t rows, int64_t columns, int64_t image_size) {
    const ImageGridSize size = image_grid_size(rows * columns, columns, image_size, image_size);
    if (std::max(size.width, size.height) > longest_side(format_))
      throw Error(
          "--grid {}: {} captions x {} images need {} x {} pixels, more than the {} per side that "
          "{} files can hold; use fewer images or another format",
          path_.string(), rows, columns, size.width, size.height, longest_side(format_),
          extension_of(format_));
    grid_.emplace(rows * columns, columns, image_size, image_size);
  }

  void place(int64_t number, const Picture& image) { grid_->place(number, image); }

  void write() const {
    write_file_atomically(path_, encode_picture(grid_->picture(), format_));
    log_info("{}", path_.string());
  }

 private:
  fs::path path_;
  PictureFormat format_ = PictureFormat::kPng;
  std::optional<ImageGrid> grid_;
};

/// Generates the images of a caption and writes each group of them as soon as it is there.
/// @param tokens_done  called with the image tokens of this caption that are generated
/// @param image_done   called with each image that is written
void generate(const TrainedDalle& dalle, const ImageRequest& request, int64_t count,
              SampleFiles& files, const std::function<void(int64_t)>& tokens_done,
              const std::function<void(int64_t number, const Picture&)>& image_done) {
  int64_t tokens_before = 0;
  for (int64_t first = 0; first < count; first += kImagesAtOnce) {
    const GenerateOptions options{.seed = static_cast<uint64_t>(request.seed),
                                  .first_image = first,
                                  .count = std::min(kImagesAtOnce, count - first)};
    const std::vector<Picture> images =
        draw_pictures(dalle, request.caption, request.sampling, options,
                      [&](int64_t done, int64_t) { tokens_done(tokens_before + done); });
    tokens_before += dalle.config.layout().image_length();
    for (int64_t number = first; const Picture& image : images) {
      files.write(number, image);
      image_done(number++, image);
    }
  }
}

/// Generates the images of all captions.
/// @return  how many were written: fewer than asked for if `stop` was requested
int64_t generate_all(const TrainedDalle& dalle, const Arguments& arguments, int64_t count,
                     std::optional<GridFile>& grid, const StopSignal& stop) {
  const SamplingConfig sampling = sampling_config(arguments, dalle.config.sample);
  const PictureFormat format = *find_picture_format(arguments.format);
  const int64_t groups = (count + kImagesAtOnce - 1) / kImagesAtOnce;
  const int64_t tokens_a_caption = groups * dalle.config.layout().image_length();
  const auto captions = static_cast<int64_t>(arguments.captions.size());
  Progress progress("generating image tokens", captions * tokens_a_caption);
  int64_t written = 0;
  for (int64_t c = 0; c < captions; ++c) {
    const ImageRequest request{.caption = arguments.captions[static_cast<size_t>(c)],
                               .seed = arguments.seed,
                               .sampling = sampling,
                               .model = dalle.hash,
                               .step = dalle.step};
    SampleFiles files(arguments.out, request, dalle.config.sample, format);
    try {
      generate(
          dalle, request, count, files,
          [&](int64_t tokens) {
            if (stop.requested()) throw StopRequested();
            progress.update(c * tokens_a_caption + tokens);
          },
          [&](int64_t number, const Picture& image) {
            if (grid) grid->place(c * count + number, image);
            ++written;
          });
    } catch (const StopRequested&) {
      files.describe();
      return written;
    } catch (...) {
      files.describe();
      throw;
    }
    files.describe();
  }
  return written;
}

int sample(const Arguments& arguments) {
  if (arguments.captions.empty()) {
    log_error(
        "no caption: expected one, e.g. dalle-sample \"a red circle\" (--help lists the options)");
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
  for (const std::string& caption : arguments.captions)
    if (dalle.tokenizer.encode(caption).empty())
      throw Error("caption {:?}: empty, expected words", caption);
  const auto captions = static_cast<int64_t>(arguments.captions.size());
  const int64_t count = arguments.count.value_or(dalle.config.sample.count);
  if (grid) grid->allocate(captions, count, dalle.config.data.image_size);

  const StopSignal stop;
  const int64_t written = generate_all(dalle, arguments, count, grid, stop);
  if (written < captions * count) {
    log_info("stopped: {} of {} images are in {}{}", written, captions * count, arguments.out,
             grid ? "; the grid was not written" : "");
    return 128 + stop.number();
  }
  if (grid) grid->write();
  log_info("wrote {} images to {}", written, arguments.out);
  return 0;
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
          "  dalle-sample \"a red circle\" --model runs/shapes-demo --temperature 0.8 --seed 7\n",
      .memory_advice =
          "lower --count (with --grid, also use fewer captions), use a smaller model, or "
          "close other programs"};
  return dalle::run_tool(app, argc, marked.data(), text, [&] { return sample(arguments); });
}
