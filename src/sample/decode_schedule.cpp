#include "sample/decode_schedule.h"

#include <algorithm>
#include <chrono>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seconds.h"
#include "core/sequence_layout.h"
#include "sample/forced_codes.h"

namespace dalle {
namespace {

/// Rows in a pass for positions after forced codes, of all images together.
constexpr int64_t kForcedRows = 64;

std::span<const int64_t> tokens_of(const CaptionImages& request) {
  return {request.caption.const_data_ptr<int64_t>(), static_cast<size_t>(request.caption.numel())};
}

/// Rows of the largest pass without forced codes and guidance.
int64_t most_guessing_rows(const DecodeConfig& config, int64_t images, int64_t image_length) {
  const int64_t window = std::min(config.window, image_length);
  switch (config.decode) {
    case DecodeMode::kSequential:
      return images;
    case DecodeMode::kParallel:
      return images * window;
    case DecodeMode::kAuto:
      return std::max(images, window);
  }
  throw Error("unknown decode mode {}", static_cast<int>(config.decode));
}

/// Rows of the largest pass without guidance.
int64_t most_rows(std::span<const CaptionImages> requests, const DecodeConfig& config,
                  int64_t images, int64_t image_length) {
  const bool has_forced = std::ranges::any_of(
      requests, [](const CaptionImages& request) { return request.forced.defined(); });
  return most_guessing_rows(config, images, image_length) + (has_forced ? kForcedRows : 0);
}

}  // namespace

DecodeSchedule::DecodeSchedule(CpuDecoder& decoder, std::span<const CaptionImages> requests,
                               const SamplingConfig& sampling, const GenerateOptions& options,
                               int64_t images)
    : decoder_(decoder),
      requests_(requests),
      options_(options),
      sampling_(sampling),
      captions_(static_cast<size_t>(images)),
      images_(static_cast<size_t>(images)),
      most_rows_(most_rows(requests, options.decode, images, decoder.layout().image_length())),
      guided_(guided_positions(sampling, decoder.layout().image_length())) {
  statistics_.weight_bytes = decoder.weight_bytes();
  options_.decode.window = std::min(options_.decode.window, decoder.layout().image_length());
  DecodeMode& mode = options_.decode.decode;
  if (mode == DecodeMode::kAuto && statistics_.weight_bytes <= options.decode.cached_bytes)
    mode = DecodeMode::kSequential;
  rows_.reserve(static_cast<size_t>(most_rows_ * sequences_per_image(sampling)));
  if (guided_.end > 0) {
    const std::vector<int64_t> padding(static_cast<size_t>(decoder.layout().max_caption_tokens()),
                                       kPadToken);
    decoder_.read_caption(/*caption=*/images, padding);
  }
  for (ImageSlot& slot : images_) start_next(slot);
}

/// The slots of the schedule's captions and images, then that of the caption of padding, and those
/// of the images with it.
DecoderCapacity DecodeSchedule::capacity(std::span<const CaptionImages> requests,
                                         const SamplingConfig& sampling, const DecodeConfig& config,
                                         int64_t images, int64_t image_length) {
  const int64_t sequences = sequences_per_image(sampling);
  return {.captions = images + sequences - 1,
          .images = images * sequences,
          .rows = most_rows(requests, config, images, image_length) * sequences};
}

/// The slot that holds the caption of a request. Reads the caption if no slot holds it yet.
int64_t DecodeSchedule::caption_slot(size_t request) {
  const auto number = [&](auto slot) { return static_cast<int64_t>(slot - captions_.begin()); };
  const auto same = std::ranges::find(captions_, request, &CaptionSlot::request);
  if (same != captions_.end()) return ++same->users, number(same);
  const auto free = std::ranges::find(captions_, 0, &CaptionSlot::users);
  DALLE_CHECK(free != captions_.end());  // there are as many slots as images in progress
  const auto tokens = tokens_of(requests_[request]);
  *free = {.request = request, .users = 1, .noise = ImageNoise(options_.seed, tokens)};
  decoder_.read_caption(number(free), tokens);
  return number(free);
}

/// Assigns the next image of the requests to a slot, if any is left.
void DecodeSchedule::start_next(ImageSlot& slot) {
  slot.active = next_request_ < requests_.size();
  if (!slot.active) return;
  ++active_;
  const CaptionImages& request = requests_[next_request_];
  slot.request = next_request_;
  slot.image = request.first_image + next_image_;
  slot.caption = caption_slot(next_request_);
  slot.forced = forced_codes(request, decoder_.layout().image_length(), options_.seed, slot.image);
  slot.end = evaluated_positions(slot.forced);
  slot.codes = slot.forced;
  std::ranges::replace(slot.codes, kFreeCode, int64_t{0});
  slot.known = slot.guessed = 0;
  if (++next_image_ == request.count) ++next_request_, next_image_ = 0;
}

/// The most positions of an image in a pass. With kAuto, the window is divided among the images in
/// progress: a pass over many images is limited by arithmetic, so wrong guesses would cost time.
int64_t DecodeSchedule::largest_window() const {
  switch (options_.decode.decode) {
    case DecodeMode::kSequential:
      return 1;
    case DecodeMode::kParallel:
      return options_.decode.window;
    case DecodeMode::kAuto:
      return std::max<int64_t>(1, options_.decode.window / active_);
  }
  throw Error("unknown decode mode {}", static_cast<int>(options_.decode.decode));
}

int64_t DecodeSchedule::window_of(const ImageSlot& slot) const {
  const int64_t left = slot.end - slot.known;
  const bool is_tuned = options_.decode.decode == DecodeMode::kAuto;
  return std::min({left, largest_window(), is_tuned ? tuner_.window() : left});
}

/// The rows from the first unknown position on whose inputs are certain: that position's, and those
/// after forced codes.
int64_t DecodeSchedule::certain_rows(const ImageSlot& slot) const {
  const auto unknown = slot.forced.begin() + slot.known, end = slot.forced.begin() + slot.end;
  const auto free = std::find(unknown, end, kFreeCode);
  return free - unknown + (free == end ? 0 : 1);
}

/// @param spare_rows  how many more rows than its window an image may have; reduced by those
void DecodeSchedule::add_rows(int64_t number, int64_t& spare_rows) {
  ImageSlot& slot = images_[static_cast<size_t>(number)];
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
                     .image = number,
                     .position = position,
                     .previous = position == 0 ? 0 : slot.codes[p - 1]});
  }
  slot.guessed = std::max(slot.guessed, end);
}

void DecodeSchedule::add_unconditional_rows() {
  unconditional_.assign(rows_.size(), -1);
  for (int64_t& other : unconditional_) {
    DecodeRow row = rows_[static_cast<size_t>(&other - unconditional_.data())];
    if (row.position >= guided_.end) continue;
    other = static_cast<int64_t>(rows_.size());
    const auto images = static_cast<int64_t>(images_.size());
    row.caption = images;
    row.image += images;
    rows_.push_back(row);
  }
}

/// The token of a conditional row.
int64_t DecodeSchedule::sample(int64_t number, TokenSampler& sampler) {
  const DecodeRow& row = rows_[static_cast<size_t>(number)];
  const ImageSlot& slot = images_[static_cast<size_t>(row.image)];
  const int64_t forced = slot.forced[static_cast<size_t>(row.position)];
  if (forced != kFreeCode) return forced;
  std::span<const float> logits = decoder_.logits(number);
  if (guided_.contains(row.position))
    logits = sampler.guided(logits, decoder_.logits(unconditional_[static_cast<size_t>(number)]));
  return sampler.sample(
      logits, captions_[static_cast<size_t>(row.caption)].noise.at(slot.image, row.position));
}

void DecodeSchedule::sample_rows() {
  const auto threads = static_cast<size_t>(at::get_num_threads());
  while (samplers_.size() < threads) samplers_.emplace_back(sampling_);
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
/// @return  the number of codes
int64_t DecodeSchedule::accept(ImageSlot& slot, std::span<const int64_t> tokens) {
  const auto first = static_cast<size_t>(slot.known);
  size_t known = 1;
  while (known < tokens.size() && slot.codes[first + known - 1] == tokens[known - 1]) ++known;
  std::ranges::copy(tokens, slot.codes.begin() + slot.known);
  slot.known += static_cast<int64_t>(known);
  return static_cast<int64_t>(known);
}

void DecodeSchedule::finish(ImageSlot& slot, const CodesDone& codes_done) {
  const SequenceLayout& layout = decoder_.layout();
  codes_done(slot.request, slot.image,
             torch::tensor(slot.codes, at::kLong).view({layout.grid_height, layout.grid_width}));
  --captions_[static_cast<size_t>(slot.caption)].users;
  --active_;
  start_next(slot);
}

int64_t DecodeSchedule::pass(const CodesDone& codes_done) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t largest = largest_window();
  const int64_t spare = most_rows_ - active_ * largest;
  int64_t left = spare;
  rows_.clear();
  for (size_t i = 0; i < images_.size(); ++i)
    if (images_[i].active) add_rows(static_cast<int64_t>(i), left);
  add_unconditional_rows();
  decoder_.step(rows_);
  sample_rows();
  const double seconds = seconds_since(start);
  int64_t evaluated = 0, after_end = 0;
  for (size_t begin = 0, end; begin < tokens_.size(); begin = end) {
    ImageSlot& slot = images_[static_cast<size_t>(rows_[begin].image)];
    for (end = begin + 1; end < tokens_.size() && rows_[end].image == rows_[begin].image;) ++end;
    evaluated += accept(slot, std::span(tokens_).subspan(begin, end - begin));
    if (slot.known < slot.end) continue;
    after_end += static_cast<int64_t>(slot.codes.size()) - slot.end;
    finish(slot, codes_done);
  }
  // More rows than the window's say nothing about it.
  if (left == spare) tuner_.record(seconds, evaluated, largest);
  ++statistics_.passes;
  statistics_.rows += static_cast<int64_t>(rows_.size());
  statistics_.codes += evaluated + after_end;
  return evaluated + after_end;
}

}  // namespace dalle
