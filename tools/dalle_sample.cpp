// dalle-sample: draws pictures of captions with a trained DALL-E.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/data/image.h"
#include "dalle/data/png_text.h"
#include "dalle/sample/image_grid.h"
#include "dalle/train/trained_dalle.h"

#include "command_line.h"

#include <nlohmann/json.hpp>

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
  int64_t batch_size = 12;
  std::string temperature;  // as given: the config's rules are applied to them
  std::string top_k;
  std::string top_p;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("captions", arguments.captions, "what to draw; each argument is a caption")
      ->required()
      ->transform(without_mark);
  app.add_option("--model", arguments.model,
                 "run folder or checkpoint; default: $DALLE_MODEL, else the run under runs/ that "
                 "finished last")
      ->transform(without_mark);
  app.add_option("--count", arguments.count, "pictures a caption; default: the config's")
      ->transform(whole_number(1, 100'000));
  app.add_option("--seed", arguments.seed, "picture i of a seed is always the same")
      ->transform(whole_number(0, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  app.add_option("--temperature", arguments.temperature,
                 "divides the logits; 0 takes the likeliest code; default: the config's");
  app.add_option("--top-k", arguments.top_k, "draw from the k likeliest codes; 0: all");
  app.add_option("--top-p", arguments.top_p,
                 "draw from the fewest codes whose probability reaches p");
  app.add_option("--batch-size", arguments.batch_size,
                 "taken for scripts' sake: pictures are always drawn 12 at a time, so that none "
                 "depends on it")
      ->transform(whole_number(1, 4096));
  app.add_option("--out", arguments.out, "folder for the pictures")
      ->transform(without_mark)
      ->capture_default_str();
  app.add_option("--grid", arguments.grid,
                 "also write all pictures as one file (.png, .jpg or .webp), a row a caption")
      ->transform(without_mark);
  app.add_option("--format", arguments.format, "png, jpg or webp")
      ->check(CLI::IsMember({"png", "jpg", "webp"}))
      ->capture_default_str();
  add_device_option(app, arguments.device);
}

PictureFormat format_of(const std::string& extension) {
  if (extension == "jpg") return PictureFormat::kJpeg;
  return extension == "webp" ? PictureFormat::kWebp : PictureFormat::kPng;
}

PictureFormat format_of_grid(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension != ".png" && extension != ".jpg" && extension != ".webp")
    throw Error("--grid {}: expected a name that ends in .png, .jpg or .webp", path.string());
  return format_of(extension.substr(1));
}

fs::path find_model(const std::string& argument) {
  if (!argument.empty()) return argument;
  if (const char* variable = std::getenv("DALLE_MODEL"); variable != nullptr && *variable != '\0')
    return variable;
  return newest_finished_run("runs");
}

/// "a red circle" -> "a-red-circle": letters and digits of any language stay, all else becomes a
/// dash. Where that loses more than spaces, a part of the caption's hash tells it from others.
std::string file_stem(const std::string& caption) {
  constexpr size_t kLongest = 60;
  std::string stem;
  for (const char c : caption) {
    const bool keep =
        std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80;
    if (keep)
      stem += c;
    else if (!stem.empty() && stem.back() != '-')
      stem += '-';
  }
  if (stem.size() > kLongest) {
    stem.resize(kLongest);
    while (!stem.empty() && (static_cast<unsigned char>(stem.back()) & 0xC0) == 0x80)
      stem.pop_back();
    if (!stem.empty() && static_cast<unsigned char>(stem.back()) >= 0xC0) stem.pop_back();
  }
  while (!stem.empty() && stem.back() == '-') stem.pop_back();
  std::string words = stem;
  std::ranges::replace(words, '-', ' ');
  if (words == caption) return stem;
  constexpr size_t kHashDigits = 8;
  return (stem.empty() ? "picture" : stem) + '-' + sha256(caption).substr(0, kHashDigits);
}

/// The config's sampling with what the options say; these are held against the ranges of its keys.
SamplingConfig sampling_config(const Arguments& arguments, const TrainedDalle& dalle) {
  ExperimentConfig config = dalle.config;
  for (const auto& [option, key, value] :
       {std::tuple{"--temperature", "temperature", arguments.temperature},
        {"--top-k", "top_k", arguments.top_k},
        {"--top-p", "top_p", arguments.top_p}}) {
    if (value.empty()) continue;
    try {
      const std::string setting = fmt::format("sample.{}={}", key, value);
      config = load_experiment_text(dump_config(config), "", {&setting, 1}, ConfigUse::kShow);
    } catch (const ConfigError& error) {
      throw Error("{}: {}", option, error.problems().front().message);
    }
  }
  return config.sample;
}

/// Draws with a progress line on a terminal.
class Progress {
 public:
  Progress(int64_t captions, int64_t pictures) : captions_(captions), pictures_(pictures) {}
  ~Progress() {
    if (shown_) std::cerr << '\n';
  }
  void show(int64_t caption, int64_t done, int64_t total) {
    if (!terminal_) return;
    shown_ = true;
    std::cerr << fmt::format("\r{:3d}%  caption {} of {}, {} pictures each",
                             100 * ((caption * total) + done) / (captions_ * total), caption + 1,
                             captions_, pictures_)
              << std::flush;
  }

 private:
  int64_t captions_;
  int64_t pictures_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
};

/// What a picture was made from: goes into PNG text chunks and into the JSON file beside the
/// pictures.
nlohmann::ordered_json description(const TrainedDalle& dalle, const SamplingConfig& sampling,
                                   const std::string& caption, int64_t seed, int64_t image) {
  return {{"caption", caption},      {"seed", seed},
          {"image", image},          {"temperature", sampling.temperature},
          {"top_k", sampling.top_k}, {"top_p", sampling.top_p},
          {"model", dalle.hash},     {"step", dalle.step}};
}

std::string file_content(const Picture& picture, PictureFormat format,
                         const nlohmann::ordered_json& made_from) {
  std::string bytes = encode_picture(picture, format);
  if (format != PictureFormat::kPng) return bytes;
  std::vector<PngText> texts;
  for (const auto& [key, value] : made_from.items())
    texts.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  return add_png_text(bytes, texts);
}

int sample(const Arguments& arguments) {
  const fs::path grid(arguments.grid);
  const PictureFormat grid_format = grid.empty() ? PictureFormat::kPng : format_of_grid(grid);
  const c10::Device device = find_device(arguments.device);
  const fs::path path = find_model(arguments.model);
  TrainedDalle dalle = load_trained_dalle(path, device);
  log_info("drawing with {} (step {})", dalle.checkpoint.string(), dalle.step);
  for (const std::string& caption : arguments.captions)
    if (dalle.tokenizer.encode(caption).empty())
      throw Error("caption {:?}: empty, expected words", caption);
  const SamplingConfig sampling = sampling_config(arguments, dalle);
  const int64_t count = arguments.count.value_or(dalle.config.sample.count);

  make_directories(arguments.out);
  const PictureFormat format = format_of(arguments.format);
  const fs::path out(arguments.out);
  std::vector<Picture> all;
  {
    Progress progress(static_cast<int64_t>(arguments.captions.size()), count);
    for (size_t c = 0; c < arguments.captions.size(); ++c) {
      const std::string& caption = arguments.captions[c];
      const std::vector<Picture> pictures = draw_pictures(
          dalle, caption, sampling, {.seed = static_cast<uint64_t>(arguments.seed), .count = count},
          [&](int64_t done, int64_t total) {
            progress.show(static_cast<int64_t>(c), done, total);
          });
      const std::string stem = fmt::format("{}-seed{}", file_stem(caption), arguments.seed);
      nlohmann::ordered_json made = nlohmann::ordered_json::array();
      for (int64_t i = 0; i < count; ++i) {
        const Picture& picture = pictures[static_cast<size_t>(i)];
        auto made_from = description(dalle, sampling, caption, arguments.seed, i);
        const std::string name = fmt::format("{}-{:03d}.{}", stem, i, arguments.format);
        write_file_atomically(out / name, file_content(picture, format, made_from));
        made_from["file"] = name;
        made.push_back(std::move(made_from));
        all.push_back(picture);
      }
      write_file_atomically(out / (stem + ".json"), made.dump(2) + "\n");
    }
  }
  if (!grid.empty()) {
    if (grid.has_parent_path()) make_directories(grid.parent_path());
    write_file_atomically(grid, encode_picture(image_grid(all, count), grid_format));
    log_info("{}", grid.string());
  }
  log_info("{} pictures in {}", all.size(), arguments.out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Draws pictures of captions with a trained DALL-E.", "dalle-sample");
  Arguments arguments;
  add_options(app, arguments);
  std::vector<std::string> texts(argv, argv + argc);
  std::vector<char*> marked;
  for (std::string& text : texts) {
    if (text.starts_with('[')) text.insert(0, 1, kBracketMark);
    marked.push_back(text.data());
  }
  return dalle::run_tool(app, argc, marked.data(), [&] { return sample(arguments); });
}
