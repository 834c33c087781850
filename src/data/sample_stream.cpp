#include "dalle/data/sample_stream.h"

#include <algorithm>
#include <system_error>
#include <utility>
#include <variant>

#include "dalle/core/error.h"
#include "dalle/core/is_blank.h"
#include "dalle/core/log.h"
#include "dalle/core/seeds.h"

namespace dalle {
namespace {

/// The last counter of derive_seed(kCrop, ...): keeps the three uses of that purpose apart.
enum CropSeed : uint64_t { kFreshCrop = 0, kCropNumber = 1, kNumberedCrop = 2 };

uint64_t counter(int64_t number) {
  return static_cast<uint64_t>(number);
}

}  // namespace

SampleStream::SampleStream(const Dataset& dataset, const Tokenizer* tokenizer,
                           SkippedSamples& skipped, const SampleStreamOptions& options)
    : dataset_(dataset),
      tokenizer_(tokenizer),
      skipped_(skipped),
      options_(options),
      order_(options.seed, dataset.size()) {
  DALLE_CHECK(tokenizer != nullptr || !options.with_caption);
  DALLE_CHECK(options.image_size > 0 && options.caption_length > 0);
  DALLE_CHECK(options.crops_per_picture >= 0);
}

void SampleStream::use_codes(CodeLookup codes) {
  // A crop that is new every epoch has no codes that could have been computed before.
  DALLE_CHECK(options_.crops_per_picture > 0 || options_.crop == CropKind::kCenter);
  codes_ = std::move(codes);
}

Sample SampleStream::at(int64_t position) const {
  DALLE_CHECK(position >= 0);
  const int64_t size = dataset_.size();
  const SampleOrder replacements(
      derive_seed(options_.seed, SeedPurpose::kReplacement, counter(position)), size);
  std::string latest;
  for (int64_t attempt = 0; attempt <= size; ++attempt) {
    const int64_t index = attempt == 0 ? index_at(position) : replacements.index(attempt - 1);
    const int64_t crop = crop_number(position, index);
    // Outside of `try`: what is wrong with a cache is not wrong with a sample.
    const at::Tensor codes = codes_ ? codes_(index, crop) : at::Tensor();
    std::string reason;
    try {
      return make(position, index, crop, codes);
    } catch (const Error& error) {
      reason = error.what();
    } catch (const std::system_error& error) {  // of its file
      reason = error.what();
    }
    const std::string key = dataset_.key(index);
    skipped_.add(key, reason);
    latest = fmt::format("{}: {}", key, reason);
  }
  throw NoUsableSample("none of the {} samples can be used; the last one was {}", size, latest);
}

at::Tensor SampleStream::image(int64_t index, int64_t crop) const {
  std::string reason;
  try {
    return cut(dataset_.get(index), crop_seed(index, crop));
  } catch (const Error& error) {
    reason = error.what();
  } catch (const std::system_error& error) {
    reason = error.what();
  }
  skipped_.add(dataset_.key(index), reason);
  return {};
}

Sample SampleStream::make(int64_t position, int64_t index, int64_t crop,
                          const at::Tensor& codes) const {
  Sample sample{.position = position, .image = {}, .codes = codes, .caption = {}, .text = {}};
  std::vector<std::string> captions;
  if (codes_) {
    if (!codes.defined()) throw Error("its picture could not be used when codes were computed");
    if (options_.with_caption) captions = dataset_.captions(index);
  } else if (options_.with_image) {
    Example example = dataset_.get(index);
    const bool numbered = options_.crops_per_picture > 0;
    sample.image = cut(example, numbered ? crop_seed(index, crop)
                                         : derive_seed(options_.seed, SeedPurpose::kCrop,
                                                       counter(position), 0, kFreshCrop));
    captions = std::move(example.captions);
  } else if (options_.with_caption) {
    captions = dataset_.captions(index);
  }
  if (options_.with_caption) {
    sample.text = choose_caption(captions, position, index);
    sample.caption = encode_caption(sample.text, position, index);
  }
  return sample;
}

int64_t SampleStream::index_at(int64_t position) const {
  return options_.shuffle ? order_.index(position) : position % order_.size();
}

/// Which of its crops example `index` shows in the epoch of `position`.
int64_t SampleStream::crop_number(int64_t position, int64_t index) const {
  if (options_.crops_per_picture < 2) return 0;
  SeedStream random(derive_seed(options_.seed, SeedPurpose::kCrop, counter(order_.epoch(position)),
                                counter(index), kCropNumber));
  return static_cast<int64_t>(random.below(counter(options_.crops_per_picture)));
}

uint64_t SampleStream::crop_seed(int64_t index, int64_t crop) const {
  return derive_seed(options_.seed, SeedPurpose::kCrop, counter(index), counter(crop),
                     kNumberedCrop);
}

at::Tensor SampleStream::cut(const Example& example, uint64_t seed) const {
  SeedStream random(seed);
  const auto cut_picture = [&](const Picture& picture) {
    return picture_to_tensor(crop_picture(picture, options_.image_size, options_.crop, random));
  };
  if (const auto* picture = std::get_if<Picture>(&example.image)) return cut_picture(*picture);
  return cut_picture(decode_picture(std::get<std::string>(example.image), options_.background));
}

std::string SampleStream::choose_caption(const std::vector<std::string>& captions, int64_t position,
                                         int64_t index) const {
  std::vector<const std::string*> written;
  for (const std::string& caption : captions)
    if (!is_blank(caption)) written.push_back(&caption);
  if (written.empty()) throw Error("no caption");
  SeedStream random(derive_seed(options_.seed, SeedPurpose::kCaptionChoice,
                                counter(order_.epoch(position)), counter(index)));
  return *written[random.below(written.size())];
}

/// @return [caption_length] int64, kPadToken behind the last token
at::Tensor SampleStream::encode_caption(const std::string& text, int64_t position,
                                        int64_t index) const {
  const uint64_t seed = derive_seed(options_.seed, SeedPurpose::kBpeDropout, counter(position));
  const std::vector<int64_t> tokens =
      options_.bpe_dropout > 0 ? tokenizer_->encode_with_dropout(text, options_.bpe_dropout, seed)
                               : tokenizer_->encode(text);
  if (tokens.empty()) throw Error("no caption");  // nothing is left of it when normalised
  if (tokens.size() > static_cast<size_t>(options_.caption_length))
    note_truncation(index, tokens.size());
  return pad_caption(tokens, options_.caption_length);
}

/// Says so of the first one, the tenth, the hundredth ...
void SampleStream::note_truncation(int64_t index, size_t tokens) const {
  int64_t count = ++truncated_captions_;
  const int64_t total = count;
  while (count % 10 == 0) count /= 10;
  if (count == 1)
    log_warning(
        "{}: its caption has {} tokens, of which the model reads the first {} (captions that were "
        "cut so far: {})",
        dataset_.key(index), tokens, options_.caption_length, total);
}

}  // namespace dalle
