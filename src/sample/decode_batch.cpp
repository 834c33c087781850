#include "sample/decode_batch.h"

#include <algorithm>
#include <chrono>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seconds.h"
#include "core/sequence_layout.h"

namespace dalle {
namespace {

/// Rows in a pass for positions after forced codes, of all images together.
constexpr int64_t kForcedRows = 64;

/// In place of a token where the logits are not finite.
constexpr int64_t kNoToken = -1;

/// Sequential decoding is parallel decoding with a window of 1.
constexpr DecodeConfig kSequentially{.decode = DecodeMode::kParallel, .window = 1};

BatchOptions with_usable_window(BatchOptions options, int64_t image_length) {
  options.decode.window = std::min(options.decode.window, image_length);
  if (options.decode.decode == DecodeMode::kSequential) options.decode = kSequentially;
  return options;
}

/// Rows of the largest pass without forced codes and guidance.
int64_t most_guessing_rows(const BatchOptions& options) {
  const int64_t window = options.decode.window;
  return options.decode.decode == DecodeMode::kAuto ? std::max(options.images, window)
                                                    : options.images * window;
}

/// The slots of the batch's captions and images, then that of the caption of padding, and those of
/// the images with it.
DecoderCapacity capacity_of(const BatchOptions& options, int64_t rows) {
  return {.captions = options.images + options.sequences - 1,
          .images = options.images * options.sequences,
          .rows = rows * options.sequences};
}

}  // namespace

DecodeBatch::DecodeBatch(const DalleModel& model, const BatchOptions& options)
    : options_(with_usable_window(options, model->layout().image_length())),
      most_rows_(most_guessing_rows(options_) + kForcedRows),
      decoder_(model, capacity_of(options, most_rows_)),
      captions_(static_cast<size_t>(options.images)),
      images_(static_cast<size_t>(options.images)) {
  statistics_.weight_bytes = decoder_.weight_bytes();
  if (options_.decode.decode == DecodeMode::kAuto &&
      statistics_.weight_bytes <= options.decode.cached_bytes)
    options_.decode = kSequentially;
  rows_.reserve(static_cast<size_t>(most_rows_ * options.sequences));
}

int64_t DecodeBatch::start(const CaptionImages& images, uint64_t seed,
                           const SamplingConfig& sampling) {
  const int64_t length = decoder_.layout().image_length();
  const auto free = std::ranges::find(images_, false, &ImageSlot::is_active);
  DALLE_CHECK(free != images_.end());
  DALLE_CHECK(sequences_per_image(sampling) <= options_.sequences);
  const std::span tokens(images.caption.const_data_ptr<int64_t>(),
                         static_cast<size_t>(images.caption.numel()));
  ImageSlot& slot = *free;
  slot.number = images.first_image;
  slot.noise = ImageNoise(seed, tokens);
  slot.sampling = sampling;
  slot.guided = guided_positions(sampling, length);
  slot.forced = forced_codes(images, length, seed, slot.number);
  slot.end = evaluated_positions(slot.forced);
  slot.codes = slot.forced;
  std::ranges::replace(slot.codes, kFreeCode, int64_t{0});
  slot.known = slot.guessed = 0;
  if (slot.guided.end > 0 && !has_padding_) {
    decoder_.read_caption(static_cast<int64_t>(captions_.size()),
                          std::vector<int64_t>(tokens.size(), kPadToken));
    has_padding_ = true;
  }
  slot.caption = caption_slot(tokens);
  ++captions_[static_cast<size_t>(slot.caption)].users;
  slot.is_active = true;
  ++active_;
  return free - images_.begin();
}

/// The slot that holds a caption. Reads the caption if no slot holds it yet.
int64_t DecodeBatch::caption_slot(std::span<const int64_t> tokens) {
  const auto number = [&](auto slot) { return static_cast<int64_t>(slot - captions_.begin()); };
  const auto same = std::ranges::find_if(captions_, [&](const CaptionSlot& slot) {
    return slot.tokens && std::ranges::equal(*slot.tokens, tokens);
  });
  if (same != captions_.end()) return number(same);
  const auto free = std::ranges::find(captions_, 0, &CaptionSlot::users);
  DALLE_CHECK(free != captions_.end());  // there are as many slots as images in progress
  free->tokens.reset();
  decoder_.read_caption(number(free), tokens);
  free->tokens.emplace(tokens.begin(), tokens.end());
  return number(free);
}

const DecodeBatch::ImageSlot& DecodeBatch::active_slot(int64_t id) const {
  const ImageSlot& slot = images_.at(static_cast<size_t>(id));
  DALLE_CHECK(slot.is_active);
  return slot;
}

void DecodeBatch::cancel(int64_t id) {
  --captions_[static_cast<size_t>(active_slot(id).caption)].users;
  --active_;
  images_[static_cast<size_t>(id)].is_active = false;
}

std::vector<int64_t> DecodeBatch::codes(int64_t id) const {
  const ImageSlot& slot = active_slot(id);
  std::vector<int64_t> codes = slot.forced;
  std::copy_n(slot.codes.begin(), slot.known, codes.begin());
  return codes;
}

int64_t DecodeBatch::unknown_codes(int64_t id) const {
  const ImageSlot& slot = active_slot(id);
  return std::count(slot.forced.begin() + slot.known, slot.forced.end(), kFreeCode);
}

/// The most positions of an image in a pass. With kAuto, the window is divided among the images in
/// progress: a pass over many images is limited by arithmetic, so wrong guesses would cost time.
int64_t DecodeBatch::largest_window() const {
  const int64_t window = options_.decode.window;
  return options_.decode.decode == DecodeMode::kAuto ? std::max<int64_t>(1, window / active_)
                                                     : window;
}

int64_t DecodeBatch::window_of(const ImageSlot& slot) const {
  const int64_t left = slot.end - slot.known;
  const bool is_tuned = options_.decode.decode == DecodeMode::kAuto;
  return std::min({left, largest_window(), is_tuned ? tuner_.window() : left});
}

/// The rows from the first unknown position on whose inputs are certain: that position's, and those
/// after forced codes.
int64_t DecodeBatch::certain_rows(const ImageSlot& slot) const {
  const auto unknown = slot.forced.begin() + slot.known, end = slot.forced.begin() + slot.end;
  const auto free = std::find(unknown, end, kFreeCode);
  return free - unknown + (free == end ? 0 : 1);
}

/// @param spare_rows  how many more rows than its window an image may have; reduced by those
void DecodeBatch::add_rows(int64_t id, int64_t& spare_rows) {
  ImageSlot& slot = images_[static_cast<size_t>(id)];
  const int64_t window = window_of(slot);
  const int64_t rows = std::max(window, std::min(certain_rows(slot), window + spare_rows));
  spare_rows -= rows - window;
  const int64_t end = slot.known + rows;
  for (int64_t position = slot.known; position < end; ++position) {
    const auto p = static_cast<size_t>(position);
    // The first guess at a position is the code before it.
    if (position > 0 && position >= slot.guessed && slot.forced[p] == kFreeCode)
      slot.codes[p] = slot.codes[p - 1];
    rows_.push_back({.caption = slot.caption,
                     .image = id,
                     .position = position,
                     .previous = position == 0 ? 0 : slot.codes[p - 1]});
  }
  slot.guessed = std::max(slot.guessed, end);
}

void DecodeBatch::add_unconditional_rows() {
  unconditional_.assign(rows_.size(), -1);
  for (int64_t& other : unconditional_) {
    DecodeRow row = rows_[static_cast<size_t>(&other - unconditional_.data())];
    if (row.position >= images_[static_cast<size_t>(row.image)].guided.end) continue;
    other = static_cast<int64_t>(rows_.size());
    const auto images = static_cast<int64_t>(images_.size());
    row.caption = images;
    row.image += images;
    rows_.push_back(row);
  }
}

/// The token of a conditional row.
int64_t DecodeBatch::sample(int64_t number, TokenSampler& sampler) {
  const DecodeRow& row = rows_[static_cast<size_t>(number)];
  const ImageSlot& slot = images_[static_cast<size_t>(row.image)];
  const int64_t forced = slot.forced[static_cast<size_t>(row.position)];
  if (forced != kFreeCode) return forced;
  sampler.use(slot.sampling);
  std::span<const float> logits = decoder_.logits(number);
  if (slot.guided.contains(row.position))
    logits = sampler.guided(logits, decoder_.logits(unconditional_[static_cast<size_t>(number)]));
  try {
    return sampler.sample(logits, slot.noise.at(slot.number, row.position));
  } catch (const Error&) {  // not finite, which must not stop the other images
    return kNoToken;
  }
}

void DecodeBatch::sample_rows() {
  const auto threads = static_cast<size_t>(at::get_num_threads());
  while (samplers_.size() < threads) samplers_.emplace_back(SamplingConfig());
  tokens_.resize(unconditional_.size());
  constexpr int64_t kClassesPerThread = 1 << 13;  // some 50 microseconds
  const int64_t grain = 1 + kClassesPerThread / static_cast<int64_t>(decoder_.logits(0).size());
  at::parallel_for(0, static_cast<int64_t>(tokens_.size()), grain, [&](int64_t begin, int64_t end) {
    TokenSampler& sampler = samplers_[static_cast<size_t>(at::get_thread_num())];
    for (int64_t i = begin; i < end; ++i) tokens_[static_cast<size_t>(i)] = sample(i, sampler);
  });
}

/// Stores the tokens sampled in a slot's rows: as codes as long as the rows' inputs were correct,
/// and as guesses after that.
/// @return  the number of codes; the last of them is kNoToken if the image cannot be completed
int64_t DecodeBatch::accept(ImageSlot& slot, std::span<const int64_t> tokens) {
  const auto first = static_cast<size_t>(slot.known);
  size_t known = 1;
  while (known < tokens.size() && slot.codes[first + known - 1] == tokens[known - 1]) ++known;
  // A guess may be any token.
  std::ranges::transform(tokens, slot.codes.begin() + slot.known,
                         [](int64_t token) { return std::max<int64_t>(token, 0); });
  slot.known += static_cast<int64_t>(known);
  return static_cast<int64_t>(known);
}

/// [grid_height, grid_width] int64
at::Tensor DecodeBatch::grid_of(const ImageSlot& slot) const {
  const SequenceLayout& layout = decoder_.layout();
  return torch::tensor(slot.codes, at::kLong).view({layout.grid_height, layout.grid_width});
}

int64_t DecodeBatch::pass(const BatchDone& done) {
  DALLE_CHECK(!is_empty());
  const auto start = std::chrono::steady_clock::now();
  const int64_t largest = largest_window();
  const int64_t spare = most_rows_ - active_ * largest;
  int64_t left = spare;
  rows_.clear();
  for (size_t i = 0; i < images_.size(); ++i)
    if (images_[i].is_active) add_rows(static_cast<int64_t>(i), left);
  add_unconditional_rows();
  decoder_.step(rows_);
  sample_rows();
  const double seconds = seconds_since(start);
  int64_t evaluated = 0, after_end = 0;
  for (size_t begin = 0, end; begin < tokens_.size(); begin = end) {
    const int64_t id = rows_[begin].image;
    for (end = begin + 1; end < tokens_.size() && rows_[end].image == id;) ++end;
    ImageSlot& slot = images_[static_cast<size_t>(id)];
    const int64_t known = accept(slot, std::span(tokens_).subspan(begin, end - begin));
    evaluated += known;
    const bool is_finite = tokens_[begin + static_cast<size_t>(known) - 1] != kNoToken;
    if (is_finite && slot.known < slot.end) continue;
    after_end += static_cast<int64_t>(slot.codes.size()) - slot.known;
    const at::Tensor codes = is_finite ? grid_of(slot) : at::Tensor();
    cancel(id);
    done(id, codes);
  }
  // More rows than the window's say nothing about it.
  if (left == spare) tuner_.record(seconds, evaluated, largest);
  ++statistics_.passes;
  statistics_.rows += static_cast<int64_t>(rows_.size());
  statistics_.codes += evaluated + after_end;
  return evaluated + after_end;
}

}  // namespace dalle
