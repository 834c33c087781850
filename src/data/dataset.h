#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "data/image/rgb_image.h"

namespace dalle {

/// An image and its captions, before cropping and tokenization.
struct RawSample {
  /// Identifies the sample in messages and determines its side of the train/validation split: a
  /// path relative to the data set, a shard and member, or a split and number. Stable across runs.
  std::string key;
  /// The bytes of an image file, or pixels if the data set renders them itself.
  std::variant<std::string, RgbImage> image;
  /// Alternatives, one of which training samples in each epoch; empty if the image has no caption.
  std::vector<std::string> captions;
};

/// A finite list of samples with random access. Shuffling, cropping, tokenization and batching are
/// built on top of it (sample_source.h), so a new kind of data only needs size(), get() and key().
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;

  /// Reads sample `index` in [0, size()). Called from several threads concurrently.
  /// @throws dalle::Error if the sample is invalid; it is then counted, listed and replaced
  virtual RawSample get(int64_t index) const = 0;

  /// Returns the sample's key without reading its image.
  virtual std::string key(int64_t index) const = 0;

  /// Returns the sample's captions without reading its image, for training the tokenizer.
  virtual std::vector<std::string> captions(int64_t index) const { return get(index).captions; }

  /// Explains, for error messages, why a sample has no caption: "no 000.txt next to it".
  virtual std::string missing_caption(int64_t index) const {
    return (void)index, std::string("no caption");
  }
};

}  // namespace dalle
