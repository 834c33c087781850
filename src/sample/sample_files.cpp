#include "sample/sample_files.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/utf8.h"
#include "data/image/png_text.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kHashDigits = 8;
/// What the JSON file says of an image besides its request.
constexpr const char* kImageKeys[] = {"image", "file", "score", "ranked_by", "rank", "best_of"};

/// "a red circle" -> "a-red-circle": keeps letters and digits of any language and replaces the rest
/// with dashes. If that loses more than spaces, a part of the caption's hash makes it unique.
std::string caption_stem(const std::string& caption) {
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
  stem = utf8_prefix(stem, kLongest);
  while (!stem.empty() && stem.back() == '-') stem.pop_back();
  std::string words = stem;
  std::ranges::replace(words, '-', ' ');
  if (words == caption) return stem;
  return (stem.empty() ? "image" : stem) + '-' + sha256(caption).substr(0, kHashDigits);
}

std::string request_stem(const ImageRequest& request, const SamplingConfig& defaults) {
  const SamplingConfig& sampling = request.sampling;
  std::string stem = fmt::format("{}-seed{}", caption_stem(request.caption), request.seed);
  if (sampling.temperature != defaults.temperature)
    stem += fmt::format("-temperature{}", sampling.temperature);
  if (sampling.top_k != defaults.top_k) stem += fmt::format("-top-k{}", sampling.top_k);
  if (sampling.top_p != defaults.top_p) stem += fmt::format("-top-p{}", sampling.top_p);
  if (sampling.guidance != defaults.guidance) stem += fmt::format("-guidance{}", sampling.guidance);
  if (sampling.guidance != 1) {
    if (sampling.guidance_from != defaults.guidance_from)
      stem += fmt::format("-from{}", sampling.guidance_from);
    if (sampling.guidance_to != defaults.guidance_to)
      stem += fmt::format("-to{}", sampling.guidance_to);
  }
  if (!request.image_prompt.is_null())
    stem += "-image" + sha256(request.image_prompt.dump()).substr(0, kHashDigits);
  return stem;
}

/// The entries of a JSON file by image file; empty if there is no JSON file yet.
/// @return  nothing if the file describes anything but images of the request
std::optional<std::map<std::string, Json>> read_entries(const fs::path& path, const Json& request) {
  std::map<std::string, Json> entries;
  if (!fs::exists(path)) return entries;
  const Json file = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!file.is_array()) return std::nullopt;
  for (const Json& entry : file) {
    if (!entry.is_object() || !entry.contains("file") || !entry["file"].is_string())
      return std::nullopt;
    const auto own =
        std::ranges::count_if(kImageKeys, [&](const char* key) { return entry.contains(key); });
    if (entry.size() != request.size() + static_cast<size_t>(own)) return std::nullopt;
    for (const auto& [key, value] : request.items())
      if (!entry.contains(key) || entry[key] != value) return std::nullopt;
    entries[entry["file"].get<std::string>()] = entry;
  }
  return entries;
}

std::string file_content(const RgbImage& image, ImageFormat format, const Json& description) {
  std::string bytes = encode_image(image, format);
  if (format != ImageFormat::kPng) return bytes;
  std::vector<PngText> texts;
  for (const auto& [key, value] : description.items())
    texts.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  return add_png_text(bytes, texts);
}

}  // namespace

Json ImageRequest::to_json() const {
  Json json{{"caption", caption},
            {"seed", seed},
            {"temperature", sampling.temperature},
            {"top_k", sampling.top_k},
            {"top_p", sampling.top_p},
            {"model", model},
            {"step", step}};
  if (sampling.guidance != 1) {
    json["guidance"] = sampling.guidance;
    json["guidance_from"] = sampling.guidance_from;
    json["guidance_to"] = sampling.guidance_to;
  }
  if (!image_prompt.is_null()) json["image_prompt"] = image_prompt;
  return json;
}

SampleFiles::SampleFiles(fs::path folder, const ImageRequest& request,
                         const SamplingConfig& defaults, ImageFormat format)
    : folder_(std::move(folder)),
      request_(request.to_json()),
      format_(format),
      stem_(request_stem(request, defaults)) {
  auto entries = read_entries(json_file(), request_);
  if (!entries) {
    const fs::path existing = json_file();
    stem_ += '-' + sha256(request_.dump()).substr(0, kHashDigits);
    log_info(
        "{} describes images from a different model or different settings; those are kept, and the "
        "new ones are named {}-*",
        existing.string(), stem_);
    entries = read_entries(json_file(), request_);
  }
  if (entries) entries_ = std::move(*entries);
  described_ = entries_.size();
}

void SampleFiles::write(int64_t number, const RgbImage& image,
                        const std::optional<ImageScore>& score) {
  Json description = request_;
  description["image"] = number;
  if (score) {
    description["score"] = score->score;
    description["ranked_by"] = score->ranked_by;
    if (score->rank) {
      description["rank"] = score->rank->place;
      description["best_of"] = score->rank->best_of;
    }
  }
  const std::string name = fmt::format("{}-{:03d}.{}", stem_, number, to_string(format_));
  write_file_atomically(folder_ / name, file_content(image, format_, description));
  description["file"] = name;
  entries_[name] = std::move(description);
  // From time to time, so that most images are described if this process is killed. Doing it after
  // each image would take time quadratic in their number.
  if (entries_.size() >= 2 * described_) describe();
}

void SampleFiles::describe() {
  if (entries_.empty()) return;
  Json file = Json::array();
  for (const auto& [name, entry] : entries_) file.push_back(entry);
  write_file_atomically(json_file(), file.dump(2) + "\n");
  described_ = entries_.size();
}

}  // namespace dalle
