#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "dalle/data/picture.h"

namespace dalle {

/// One picture and what is said about it.
struct Example {
  /// Names the sample in messages and decides its side of the train/validation split: a path
  /// relative to the data set, a shard and member, or a split and number. Stable across runs.
  std::string key;
  /// The bytes of an image file, or pixels where the data set makes them itself.
  std::variant<std::string, Picture> image;
  /// Alternatives, of which training draws one per epoch; empty where pictures come without text.
  std::vector<std::string> captions;
};

/// A finite list of examples with random access: order, cropping, tokenising and batching are built
/// on top of it (sample_stream.h), so a new source of data needs nothing but these three functions.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;

  /// Reads example `index` in [0, size()). Called from several threads at once.
  /// @throws dalle::Error if the sample is bad; it is then counted, listed and replaced
  virtual Example get(int64_t index) const = 0;

  /// The example's key, without reading its picture.
  virtual std::string key(int64_t index) const = 0;

  /// The example's captions, without reading its picture; the tokenizer is trained on them.
  virtual std::vector<std::string> captions(int64_t index) const { return get(index).captions; }

  /// Where the caption of an example that has none was looked for, for error messages: "no 000.txt
  /// next to it".
  virtual std::string missing_caption(int64_t index) const {
    return (void)index, std::string("no caption");
  }
};

}  // namespace dalle
