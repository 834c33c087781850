#include "data/sample_source.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "core/ascii.h"
#include "core/error.h"
#include "core/log.h"
#include "core/seeds.h"
#include "data/invalid_sample.h"

namespace dalle {
namespace {

/// The last counter of derive_seed(kCrop, ...), which distinguishes the three uses of that purpose.
enum CropSeed : uint64_t { kFreshCrop = 0, kCropNumber = 1, kNumberedCrop = 2 };

uint64_t counter(int64_t number) {
  return static_cast<uint64_t>(number);
}

}  // namespace

SampleSource::SampleSource(const Dataset& dataset, const Tokenizer* tokenizer,
                           SkippedSamples& skipped, const SampleSourceOptions& options)
    : dataset_(dataset),
      tokenizer_(tokenizer),
      skipped_(skipped),
      options_(options),
      order_(options.seed, dataset.size()) {
  DALLE_CHECK(tokenizer != nullptr || !options.with_caption);
  DALLE_CHECK(options.image_size > 0 && options.caption_length > 0);
  DALLE_CHECK(options.crops_per_image >= 0);
}

void SampleSource::use_codes(CodeLookup codes) {
  // Random crops that differ in every epoch cannot have precomputed codes.
  DALLE_CHECK(options_.crops_per_image > 0 || options_.crop == CropKind::kCenter);
  codes_ = std::move(codes);
}

Sample SampleSource::at(int64_t position) const {
  DALLE_CHECK(position >= 0);
  const int64_t size = dataset_.size();
  const EpochPermutation replacements(
      derive_seed(options_.seed, SeedPurpose::kReplacement, counter(position)), size);
  std::string latest;
  for (int64_t attempt = 0; attempt <= size; ++attempt) {
    const int64_t index = attempt == 0 ? index_at(position) : replacements.index(attempt - 1);
    auto made = try_to_make(position, index);
    if (auto* sample = std::get_if<Sample>(&made)) return std::move(*sample);
    latest = fmt::format("{}: {}", dataset_.key(index), std::get<std::string>(made));
  }
  throw NoUsableSample("all {} samples are invalid; the last one was {}", size, latest);
}

std::optional<Sample> SampleSource::unreplaced(int64_t position) const {
  DALLE_CHECK(position >= 0);
  auto made = try_to_make(position, index_at(position));
  if (auto* sample = std::get_if<Sample>(&made)) return std::move(*sample);
  return std::nullopt;
}

/// @return  the sample of a raw sample, or the recorded reason why that is invalid
std::variant<Sample, std::string> SampleSource::try_to_make(int64_t position, int64_t index) const {
  const int64_t crop = crop_number(position, index);
  // Outside of defect_of(): an error of the cache does not make a sample invalid.
  const at::Tensor codes = codes_ ? codes_(index, crop) : at::Tensor();
  Sample sample;
  std::optional<std::string> defect =
      defect_of([&] { sample = make(position, index, crop, codes); });
  if (!defect) return sample;
  skipped_.add(dataset_.key(index), *defect);
  return std::move(*defect);
}

at::Tensor SampleSource::image(int64_t index, int64_t crop) const {
  at::Tensor image;
  const std::optional<std::string> defect =
      defect_of([&] { image = crop_to_tensor(dataset_.get(index), crop_seed(index, crop)); });
  if (defect) skipped_.add(dataset_.key(index), *defect);
  return image;
}

Sample SampleSource::make(int64_t position, int64_t index, int64_t crop,
                          const at::Tensor& codes) const {
  Sample sample{.position = position, .image = {}, .codes = codes, .caption = {}, .text = {}};
  std::vector<std::string> captions;
  if (codes_) {
    if (!codes.defined()) throw Error("its image was invalid when codes were computed");
    if (options_.with_caption) captions = dataset_.captions(index);
  } else if (options_.with_image) {
    RawSample raw = dataset_.get(index);
    const bool is_numbered = options_.crops_per_image > 0;
    const uint64_t fresh_seed =
        derive_seed(options_.seed, SeedPurpose::kCrop, counter(position), 0, kFreshCrop);
    sample.image = crop_to_tensor(raw, is_numbered ? crop_seed(index, crop) : fresh_seed);
    captions = std::move(raw.captions);
  } else if (options_.with_caption) {
    captions = dataset_.captions(index);
  }
  if (options_.with_caption) {
    sample.text = choose_caption(captions, position, index);
    sample.caption = encode_caption(sample.text, position, index);
  }
  return sample;
}

int64_t SampleSource::index_at(int64_t position) const {
  return options_.shuffle ? order_.index(position) : position % order_.size();
}

/// The number of the crop that sample `index` uses in the epoch of `position`.
int64_t SampleSource::crop_number(int64_t position, int64_t index) const {
  if (options_.crops_per_image < 2) return 0;
  SeedStream random(derive_seed(options_.seed, SeedPurpose::kCrop, counter(order_.epoch(position)),
                                counter(index), kCropNumber));
  return static_cast<int64_t>(random.below(counter(options_.crops_per_image)));
}

uint64_t SampleSource::crop_seed(int64_t index, int64_t crop) const {
  return derive_seed(options_.seed, SeedPurpose::kCrop, counter(index), counter(crop),
                     kNumberedCrop);
}

at::Tensor SampleSource::crop_to_tensor(const RawSample& raw, uint64_t seed) const {
  SeedStream random(seed);
  const auto crop = [&](const RgbImage& image) {
    return image_to_tensor(crop_image(image, options_.image_size, options_.crop, random));
  };
  if (const auto* image = std::get_if<RgbImage>(&raw.image)) return crop(*image);
  return crop(decode_image(std::get<std::string>(raw.image), options_.background));
}

std::string SampleSource::choose_caption(const std::vector<std::string>& captions, int64_t position,
                                         int64_t index) const {
  std::vector<const std::string*> nonblank;
  for (const std::string& caption : captions)
    if (!is_blank(caption)) nonblank.push_back(&caption);
  if (nonblank.empty()) throw Error("no caption");
  SeedStream random(derive_seed(options_.seed, SeedPurpose::kCaptionChoice,
                                counter(order_.epoch(position)), counter(index)));
  return *nonblank[random.below(nonblank.size())];
}

/// @return [caption_length] int64, padded with kPadToken
at::Tensor SampleSource::encode_caption(const std::string& text, int64_t position,
                                        int64_t index) const {
  const uint64_t seed = derive_seed(options_.seed, SeedPurpose::kBpeDropout, counter(position));
  const std::vector<int64_t> tokens =
      options_.bpe_dropout > 0 ? tokenizer_->encode_with_dropout(text, options_.bpe_dropout, seed)
                               : tokenizer_->encode(text);
  if (tokens.empty()) throw Error("no caption");  // blank after normalization
  if (tokens.size() > static_cast<size_t>(options_.caption_length))
    count_truncation(index, tokens.size());
  const uint64_t dropout =
      derive_seed(options_.seed, SeedPurpose::kCaptionDropout, counter(position));
  const bool is_dropped = to_unit(dropout) < options_.caption_dropout;
  return pad_caption(is_dropped ? std::vector<int64_t>() : tokens, options_.caption_length);
}

/// Logs the first truncated caption, the tenth, the hundredth ...
void SampleSource::count_truncation(int64_t index, size_t tokens) const {
  int64_t count = ++truncated_captions_;
  const int64_t total = count;
  while (count % 10 == 0) count /= 10;
  if (count == 1)
    log_warning(
        "{}: its caption has {} tokens; the model only uses the first {} (captions truncated so "
        "far: "
        "{})",
        dataset_.key(index), tokens, options_.caption_length, total);
}

}  // namespace dalle
