#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/cpu_decoder.h"
#include "sample/generate_codes.h"
#include "sample/guidance.h"
#include "sample/image_noise.h"
#include "sample/token_sampler.h"
#include "sample/window_tuner.h"

namespace dalle {

/// Generates images of captions with a CpuDecoder. Each pass evaluates one or more positions of
/// each image in progress; when an image is complete, the next one takes its place.
///
/// If a pass evaluates several positions of an image, the inputs of all but the first are guesses:
/// the tokens that the previous pass sampled there. A row is correct if its input and all earlier
/// ones are correct, because its noise is known in advance and no row depends on later ones. So all
/// rows before the first one with a wrong input give what sequential decoding would have sampled;
/// later passes overwrite the keys and values of the others.
///
/// A forced code is no guess, so the rows that follow forced codes have correct inputs: a pass
/// evaluates many of them at once in every decode mode. An image needs no rows after its last free
/// position. With guidance, a row has a second one, of the same image with a caption of padding,
/// which has a slot of its own for its keys and values.
///
/// Source: Wiggers and Hoogeboom 2020, "Predictive Sampling with Forecasting Autoregressive Models"
/// (fixed-point iteration with reparametrized noise)
class DecodeSchedule {
 public:
  DecodeSchedule(CpuDecoder& decoder, std::span<const CaptionImages> requests,
                 const SamplingConfig& sampling, const GenerateOptions& options, int64_t images);

  /// Whether all images are complete.
  bool is_done() const { return active_ == 0; }

  /// Runs one pass and calls `codes_done` for each image that it completes.
  /// @return  the number of tokens that it confirmed
  int64_t pass(const CodesDone& codes_done);

  const GenerateStatistics& statistics() const { return statistics_; }

  /// What the decoder of a schedule with these arguments needs room for.
  static DecoderCapacity capacity(std::span<const CaptionImages> requests,
                                  const SamplingConfig& sampling, const DecodeConfig& config,
                                  int64_t images, int64_t image_length);

 private:
  struct CaptionSlot {
    std::optional<size_t> request;  ///< whose caption it holds
    int64_t users = 0;              ///< images in progress
    ImageNoise noise{0, {}};
  };
  struct ImageSlot {
    bool active = false;
    size_t request = 0;
    int64_t image = 0;
    int64_t caption = 0;          ///< slot
    std::vector<int64_t> forced;  ///< kFreeCode where a code is sampled
    int64_t end = 0;              ///< of the positions to evaluate
    std::vector<int64_t> codes;   ///< the known and the forced ones, and guesses
    int64_t known = 0;            ///< evaluated with correct inputs
    int64_t guessed = 0;          ///< end of the positions that were sampled at least once
  };

  void start_next(ImageSlot& slot);
  int64_t caption_slot(size_t request);
  int64_t largest_window() const;
  int64_t window_of(const ImageSlot& slot) const;
  int64_t certain_rows(const ImageSlot& slot) const;
  void add_rows(int64_t number, int64_t& spare_rows);
  void add_unconditional_rows();
  int64_t sample(int64_t row, TokenSampler& sampler);
  void sample_rows();
  int64_t accept(ImageSlot& slot, std::span<const int64_t> tokens);
  void finish(ImageSlot& slot, const CodesDone& codes_done);

  CpuDecoder& decoder_;
  std::span<const CaptionImages> requests_;
  GenerateOptions options_;
  SamplingConfig sampling_;
  std::vector<CaptionSlot> captions_;
  std::vector<ImageSlot> images_;
  int64_t active_ = 0;
  size_t next_request_ = 0;
  int64_t next_image_ = 0;  ///< of this request, from 0
  int64_t most_rows_;       ///< of a pass, unconditional ones not counted
  GuidedPositions guided_;
  std::vector<DecodeRow> rows_;
  std::vector<int64_t> unconditional_;  ///< of each conditional row, the other one's number, or -1
  std::vector<int64_t> tokens_;         ///< of the conditional rows
  std::vector<TokenSampler> samplers_;  ///< one per thread
  WindowTuner tuner_;
  GenerateStatistics statistics_;
};

}  // namespace dalle
