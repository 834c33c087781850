#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/tokenizer_config.h"

namespace dalle {

/// Encodes text as BPE tokens, after normalization (NFKC and case folding). Characters without a
/// token of their own are encoded as bytes, so any text can be encoded. Has no random state:
/// dropout is a function of its seed. Thread-safe.
///
/// Start-of-text, start-of-image and padding are not part of the vocabulary; the model adds them.
class Tokenizer {
 public:
  /// @param model  the bytes of a sentencepiece BPE model
  /// @throws dalle::Error like read_bpe_model()
  explicit Tokenizer(std::string model);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  int64_t vocab_size() const;

  /// Returns tokens in [0, vocab_size()); none if the text is blank.
  /// @throws dalle::Error if `text` is not UTF-8
  std::vector<int64_t> encode(std::string_view text) const;

  /// Encodes with BPE-dropout: skips each possible merge with probability `dropout`. The same seed
  /// gives the same tokens, and dropout 0 gives those of encode().
  /// Source: Provilkov et al. 2020; Ramesh et al. 2021, section 2.2, footnote 5
  std::vector<int64_t> encode_with_dropout(std::string_view text, double dropout,
                                           uint64_t seed) const;

  /// Returns the bytes that were passed to the constructor.
  const std::string& model() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// Reads a sentencepiece BPE model from a file.
/// @throws dalle::Error naming the path, like Tokenizer's constructor
Tokenizer load_tokenizer(const std::filesystem::path& path);

/// Returns one caption per call, and nothing after the last one.
using CaptionIterator = std::function<std::optional<std::string>()>;

/// Trains a BPE on captions. The same captions give the same bytes.
///
/// The vocabulary is smaller than config.vocab_size if the captions contain too few merges; see
/// Tokenizer::vocab_size(). If the captions contain more distinct characters than half of the
/// vocabulary, byte fallback encodes the rarest of them, but at most 2% of the text.
///
/// @param captions  at most config.max_training_captions are read, so they should be spread over
///                  the data; long ones are truncated
/// @return          the bytes of a sentencepiece model
/// @throws dalle::Error if the captions contain no words or are not UTF-8, or if the vocabulary is
///         too small for their characters (naming tokenizer.vocab_size and the required size)
std::string train_tokenizer(const CaptionIterator& captions, const TokenizerConfig& config);

}  // namespace dalle
