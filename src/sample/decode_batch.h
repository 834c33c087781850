#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "model/cpu_decoder.h"
#include "sample/caption_images.h"
#include "sample/decode_config.h"
#include "sample/generate_options.h"
#include "sample/guidance.h"
#include "sample/image_noise.h"
#include "sample/sampling_config.h"
#include "sample/token_sampler.h"
#include "sample/window_tuner.h"

namespace dalle {

struct BatchOptions {
  int64_t images = 1;     ///< in progress at once
  int64_t sequences = 2;  ///< of an image, at most; 1 suffices without guidance
  DecodeConfig decode = {};
};

/// Called with each image that a pass completes. It must not call the batch.
/// @param id     from DecodeBatch::start(), which may return it again from now on
/// @param codes  [grid_height, grid_width] int64 on the CPU; undefined if the model's logits were
///               not finite
using BatchDone = std::function<void(int64_t id, const at::Tensor& codes)>;

/// Generates images with a CpuDecoder. Each pass evaluates one or more positions of each image in
/// progress. Between two passes, images may join and leave. Each has a caption, a seed and sampling
/// settings of its own, and its codes do not depend on the others, bit for bit.
///
/// If a pass evaluates several positions of an image, the inputs of all but the first are guesses:
/// the tokens that the previous pass sampled there. A row is correct if its input and all earlier
/// ones are correct, because its noise is known in advance and no row depends on later ones. So all
/// rows before the first one with a wrong input give what sequential decoding would have sampled;
/// later passes overwrite the keys and values of the others.
///
/// A forced code is not a guess, so the rows that follow forced codes have correct inputs: a pass
/// evaluates many of them at once in every decode mode. An image needs no rows after its last free
/// position. With guidance, a row has a second one, of the same image with a caption of padding,
/// which has a slot of its own for its keys and values.
///
/// Images of equal captions share the caption's keys and values. The memory of an image, of a
/// caption and of the caption of padding is allocated when it is first needed, and kept.
///
/// Source: Wiggers and Hoogeboom 2020, "Predictive Sampling with Forecasting Autoregressive Models"
/// (fixed-point iteration with reparametrized noise)
class DecodeBatch {
 public:
  /// @param model  as for CpuDecoder
  DecodeBatch(const DalleModel& model, const BatchOptions& options);

  bool is_empty() const { return active_ == 0; }
  bool is_full() const { return active_ == static_cast<int64_t>(images_.size()); }

  /// Adds the first of these images, and reads its caption unless another image has done so. The
  /// batch must not be full. If this throws, the batch is unchanged.
  /// @return  the image's number in the batch
  int64_t start(const CaptionImages& images, uint64_t seed, const SamplingConfig& sampling);

  /// Removes an image, which is not reported as complete.
  void cancel(int64_t id);

  /// Runs one pass over the batch, which must not be empty, and calls `done` for each image that it
  /// completes. If this throws, the images that were not reported are still in progress.
  /// @return  the number of codes that it adds
  int64_t pass(const BatchDone& done);

  /// The codes of an image in progress.
  /// @return  [image_length], kFreeCode where a code is not known yet
  std::vector<int64_t> codes(int64_t id) const;

  /// How many codes of an image in progress are not known yet.
  int64_t unknown_codes(int64_t id) const;

  const GenerateStatistics& statistics() const { return statistics_; }

 private:
  struct CaptionSlot {
    std::optional<std::vector<int64_t>> tokens;  ///< the caption whose keys and values it holds
    int64_t users = 0;                           ///< images in progress
  };
  struct ImageSlot {
    bool is_active = false;
    int64_t number = 0;   ///< of the image, among those of its seed
    int64_t caption = 0;  ///< slot
    ImageNoise noise{0, {}};
    SamplingConfig sampling;
    GuidedPositions guided;
    std::vector<int64_t> forced;  ///< kFreeCode where a code is sampled
    int64_t end = 0;              ///< of the positions to evaluate
    std::vector<int64_t> codes;   ///< the known and the forced ones, and guesses
    int64_t known = 0;            ///< evaluated with correct inputs
    int64_t guessed = 0;          ///< end of the positions that were sampled at least once
  };

  const ImageSlot& active_slot(int64_t id) const;
  int64_t caption_slot(std::span<const int64_t> tokens);
  int64_t largest_window() const;
  int64_t window_of(const ImageSlot& slot) const;
  int64_t certain_rows(const ImageSlot& slot) const;
  void add_rows(int64_t id, int64_t& spare_rows);
  void add_unconditional_rows();
  int64_t sample(int64_t row, TokenSampler& sampler);
  void sample_rows();
  int64_t accept(ImageSlot& slot, std::span<const int64_t> tokens);
  at::Tensor grid_of(const ImageSlot& slot) const;

  BatchOptions options_;
  int64_t most_rows_;  ///< of a pass, not counting unconditional ones
  CpuDecoder decoder_;
  std::vector<CaptionSlot> captions_;
  std::vector<ImageSlot> images_;
  int64_t active_ = 0;
  bool has_padding_ = false;  ///< whether the caption of padding has been read
  std::vector<DecodeRow> rows_;
  std::vector<int64_t> unconditional_;  ///< by conditional row: its unconditional row, or -1
  std::vector<int64_t> tokens_;         ///< of the conditional rows
  std::vector<TokenSampler> samplers_;  ///< one per thread
  WindowTuner tuner_;
  GenerateStatistics statistics_;
};

}  // namespace dalle
