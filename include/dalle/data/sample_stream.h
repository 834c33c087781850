#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "dalle/core/sequence_layout.h"
#include "dalle/data/batch.h"
#include "dalle/data/dataset.h"
#include "dalle/data/image.h"
#include "dalle/data/sample_order.h"
#include "dalle/data/skipped_samples.h"
#include "dalle/data/tokenizer.h"

namespace dalle {

/// What a stage wants of each sample.
struct SampleStreamOptions {
  uint64_t seed = 1;         ///< the experiment's
  bool shuffle = true;       ///< false: position p is sample p modulo the size (validation)
  bool with_image = true;    ///< false where codes stand in for the picture
  bool with_caption = true;  ///< false for the dVAE, which needs no text
  int64_t image_size = 256;
  uint8_t background = 255;  ///< grey level under transparent pictures
  CropKind crop = CropKind::kDvae;
  int64_t crops_per_picture =
      0;  ///< 0: a fresh crop every epoch; else one of so many, drawn per epoch
  int64_t caption_length = 255;  ///< SequenceLayout::max_caption_tokens()
  double bpe_dropout = 0.0;
};

/// The samples of a run as a pure function of their global position: which example, which of its
/// captions, which crop, which segmentation. Thread-safe; this is all that the loader's workers
/// call.
class SampleStream {
 public:
  /// The data set, tokenizer (may be null when with_caption is false) and record must outlive the
  /// stream.
  SampleStream(const Dataset& dataset, const Tokenizer* tokenizer, SkippedSamples& skipped,
               const SampleStreamOptions& options);

  /// A bad example is recorded and replaced by another, chosen by (seed, position, attempt).
  /// @throws dalle::Error if too many are bad (see SkippedSamples)
  Sample at(int64_t position) const;

  /// Codes of crop `crop` of example `index`, flattened: used instead of the picture when set.
  using CodeLookup = std::function<at::Tensor(int64_t index, int64_t crop)>;
  void use_codes(CodeLookup codes) { codes_ = std::move(codes); }

  /// The picture of example `index` cut as crop number `crop` of it; what a code cache is computed
  /// from.
  at::Tensor image(int64_t index, int64_t crop) const;

  const SampleOrder& order() const { return order_; }

  /// Captions cut because they had more than caption_length tokens.
  int64_t truncated_captions() const { return truncated_captions_; }

 private:
  const Dataset& dataset_;
  const Tokenizer* tokenizer_;
  SkippedSamples& skipped_;
  SampleStreamOptions options_;
  SampleOrder order_;
  CodeLookup codes_;
  mutable std::atomic<int64_t> truncated_captions_ = 0;
};

}  // namespace dalle
