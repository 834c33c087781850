#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dalle/core/error.h"
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
  /// 0: a fresh crop every epoch; else one of so many, drawn per epoch
  int64_t crops_per_picture = 0;
  int64_t caption_length = 255;  ///< SequenceLayout::max_caption_tokens()
  double bpe_dropout = 0.0;
};

/// Not a single example of a data set can be used.
class NoUsableSample : public Error {
 public:
  using Error::Error;
};

/// The samples of a run as a pure function of their global position: which example, which of its
/// captions, which crop, which segmentation. Thread-safe; this is all that the loader's workers
/// call.
///
/// What each choice depends on, besides the experiment's seed:
///
///     example       epoch and position (sample_order.h)
///     caption       epoch and example
///     crop          position; with crops_per_picture, example and crop number, and the number on
///                   epoch and example: so crops, and the codes of crops, can be made beforehand
///     segmentation  position
///     replacement   position and attempt
class SampleStream {
 public:
  /// The data set, tokenizer (may be null when with_caption is false) and record must outlive the
  /// stream.
  /// @throws dalle::Error if the data set is empty
  SampleStream(const Dataset& dataset, const Tokenizer* tokenizer, SkippedSamples& skipped,
               const SampleStreamOptions& options);

  /// The sample at global position `position` >= 0 of the run.
  ///
  /// An example is bad if it cannot be read, decoded or cut, or has no caption where one is wanted.
  /// It is recorded and replaced: attempt by attempt through a permutation of the data set that
  /// belongs to the position, until an example works.
  ///
  /// @throws dalle::Error if too many are bad (see SkippedSamples); NoUsableSample if all of them
  Sample at(int64_t position) const;

  /// Codes of crop `crop` of example `index`: [N] int64 in [0, K), or undefined if the example is
  /// bad. An error it throws is none of the sample and ends the run.
  using CodeLookup = std::function<at::Tensor(int64_t index, int64_t crop)>;

  /// Has samples carry codes in place of pictures, which are then not read. With the codes of
  /// image() all else stays the same, replacements included.
  void use_codes(CodeLookup codes);

  /// The picture of example `index` cut as crop number `crop` of it; what a code cache is computed
  /// from.
  ///
  /// @return [3, S, S] uint8; undefined if the example is bad, which is recorded
  /// @throws dalle::Error if too many are bad (see SkippedSamples)
  at::Tensor image(int64_t index, int64_t crop) const;

  const SampleOrder& order() const { return order_; }

  /// Captions cut because they had more than caption_length tokens, in the samples made so far; the
  /// first, tenth, hundredth ... of them is in the log.
  int64_t truncated_captions() const { return truncated_captions_; }

 private:
  Sample make(int64_t position, int64_t index, int64_t crop, const at::Tensor& codes) const;
  int64_t index_at(int64_t position) const;
  int64_t crop_number(int64_t position, int64_t index) const;
  uint64_t crop_seed(int64_t index, int64_t crop) const;
  at::Tensor cut(const Example& example, uint64_t seed) const;
  std::string choose_caption(const std::vector<std::string>& captions, int64_t position,
                             int64_t index) const;
  at::Tensor encode_caption(const std::string& text, int64_t position, int64_t index) const;
  void note_truncation(int64_t index, size_t tokens) const;

  const Dataset& dataset_;
  const Tokenizer* tokenizer_;
  SkippedSamples& skipped_;
  SampleStreamOptions options_;
  SampleOrder order_;
  CodeLookup codes_;
  mutable std::atomic<int64_t> truncated_captions_ = 0;
};

}  // namespace dalle
