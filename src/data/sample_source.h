#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/error.h"
#include "core/sequence_layout.h"
#include "data/batch.h"
#include "data/dataset.h"
#include "data/epoch_permutation.h"
#include "data/image/image.h"
#include "data/skipped_samples.h"
#include "data/text/tokenizer.h"

namespace dalle {

/// The contents of the samples that a training stage needs.
struct SampleSourceOptions {
  uint64_t seed = 1;         ///< the experiment's seed
  bool shuffle = true;       ///< false: position p is sample p modulo the size, for validation
  bool with_image = true;    ///< false if codes replace the image
  bool with_caption = true;  ///< false for the dVAE
  int64_t image_size = 256;
  uint8_t background = 255;  ///< gray level behind transparent images
  CropKind crop = CropKind::kDvae;
  /// 0: a new random crop in every epoch; otherwise one of this many fixed crops.
  int64_t crops_per_image = 0;
  int64_t caption_length = 255;  ///< SequenceLayout::max_caption_tokens()
  double bpe_dropout = 0.0;
  double caption_dropout = 0.0;  ///< probability that a sample's caption is all padding
};

/// All samples of a data set are invalid.
class NoUsableSample : public Error {
 public:
  using Error::Error;
};

/// Makes the samples of a run, each of which is a pure function of its global position.
/// Thread-safe; the workers of a BatchLoader call at().
///
/// Besides the experiment's seed, each random choice depends on the following:
///
///     raw sample    epoch and position (epoch_permutation.h)
///     caption       epoch and raw sample
///     crop          position; with crops_per_image, raw sample and crop number, and the number on
///                   epoch and raw sample, so that crops and their codes can be precomputed
///     segmentation  position
///     no caption    position
///     replacement   position and attempt
class SampleSource {
 public:
  /// The data set, the tokenizer (which may be null if with_caption is false) and `skipped` must
  /// outlive the source.
  /// @throws dalle::Error if the data set is empty
  SampleSource(const Dataset& dataset, const Tokenizer* tokenizer, SkippedSamples& skipped,
               const SampleSourceOptions& options);

  /// Returns the sample at global position `position` >= 0.
  ///
  /// A raw sample is invalid if it cannot be read, decoded or cropped, or if it lacks a caption
  /// that the stage needs. It is recorded as skipped and replaced by the first valid one in a
  /// permutation of the data set that depends on the position.
  ///
  /// @throws dalle::Error if too many samples are invalid (see SkippedSamples); NoUsableSample if
  ///         all are
  Sample at(int64_t position) const;

  /// Returns the sample at a position, or nothing if its raw sample is invalid, which is recorded.
  /// @throws dalle::Error if too many samples are invalid (see SkippedSamples)
  std::optional<Sample> unreplaced(int64_t position) const;

  /// Returns the codes of crop `crop` of raw sample `index`: [N] int64 in [0, K), or an undefined
  /// tensor if the sample is invalid. Its exceptions are not blamed on the sample; they end the
  /// run.
  using CodeLookup = std::function<at::Tensor(int64_t index, int64_t crop)>;

  /// Makes samples contain codes instead of images, which are then not read. If the codes are those
  /// of image(), everything else, including replacements, stays the same.
  void use_codes(CodeLookup codes);

  /// Returns crop `crop` of raw sample `index`, from which the code cache is computed.
  ///
  /// @return [3, S, S] uint8; undefined if the sample is invalid, which is recorded
  /// @throws dalle::Error if too many samples are invalid (see SkippedSamples)
  at::Tensor image(int64_t index, int64_t crop) const;

  const EpochPermutation& order() const { return order_; }

 private:
  std::variant<Sample, std::string> try_to_make(int64_t position, int64_t index) const;
  Sample make(int64_t position, int64_t index, int64_t crop, const at::Tensor& codes) const;
  int64_t index_at(int64_t position) const;
  int64_t crop_number(int64_t position, int64_t index) const;
  uint64_t crop_seed(int64_t index, int64_t crop) const;
  at::Tensor crop_to_tensor(const RawSample& raw, uint64_t seed) const;
  std::string choose_caption(const std::vector<std::string>& captions, int64_t position,
                             int64_t index) const;
  at::Tensor encode_caption(const std::string& text, int64_t position, int64_t index) const;
  void count_truncation(int64_t index, size_t tokens) const;

  const Dataset& dataset_;
  const Tokenizer* tokenizer_;
  SkippedSamples& skipped_;
  SampleSourceOptions options_;
  EpochPermutation order_;
  CodeLookup codes_;
  mutable std::atomic<int64_t> truncated_captions_ = 0;
};

}  // namespace dalle
