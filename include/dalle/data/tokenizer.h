#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dalle/data/tokenizer_config.h"

namespace dalle {

/// Text to BPE tokens and back. Lower-cases and normalises (NFKC, case folding); any text has
/// tokens because characters without one fall back to bytes. Holds no random state: dropout is a
/// function of its seed. All functions may be called from several threads at once.
///
/// Start-of-text, start-of-image and padding are no tokens of it: they belong to the model.
class Tokenizer {
 public:
  /// @param model  the bytes of a sentencepiece BPE model
  /// @throws dalle::Error if they are none, damaged, or a model of another type than BPE or without
  /// byte fallback
  explicit Tokenizer(std::string model);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  int64_t vocab_size() const;

  /// Token ids in [0, vocab_size()); none for a caption that is empty or all blanks.
  /// @throws dalle::Error if `text` is not UTF-8
  std::vector<int64_t> encode(std::string_view text) const;

  /// BPE-dropout: each merge is skipped with probability `dropout` whenever it could be applied.
  /// The same seed gives the same tokens; with dropout 0 equal to encode().
  /// Source: Provilkov et al. 2020; Ramesh et al. 2021, section 2.2, footnote 5
  std::vector<int64_t> encode_with_dropout(std::string_view text, double dropout,
                                           uint64_t seed) const;

  /// The text that the tokens stand for, normalised as the tokenizer does; bytes that are no UTF-8
  /// come out as U+FFFD.
  /// @throws dalle::Error if a token is not in [0, vocab_size())
  std::string decode(const std::vector<int64_t>& tokens) const;

  /// The model's bytes, as given to the constructor.
  const std::string& model() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// Reads a sentencepiece BPE model from a file.
/// @throws dalle::Error naming the path, as Tokenizer's constructor does
Tokenizer load_tokenizer(const std::filesystem::path& path);

/// Yields one caption a call, then nothing.
using CaptionIterator = std::function<std::optional<std::string>()>;

/// Learns a BPE from captions.
///
/// The vocabulary may come out smaller than config.vocab_size when the captions hold fewer merges;
/// the caller reads Tokenizer::vocab_size() and says so. Where the captions hold more kinds of
/// characters than half of the vocabulary, the rarest are left to byte fallback, at most two of a
/// hundred characters. The same captions give the same bytes.
///
/// @param captions  at most config.max_training_captions of them are read, so the caller spreads
///                  them over the data; of a long one the beginning counts
/// @return          the bytes of a sentencepiece model
/// @throws dalle::Error if no caption holds a word, one is not UTF-8, or the vocabulary has no room
/// for their characters (naming tokenizer.vocab_size and what is needed)
std::string train_tokenizer(const CaptionIterator& captions, const TokenizerConfig& config);

}  // namespace dalle
