#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/text/merge_pairs.h"

namespace dalle {

/// The byte-level BPE of the released CLIP models, in the files that transformers has of it.
///
/// A caption is composed (normal form C), lower-cased, and split into words: runs of letters,
/// single numbers, runs of other characters, and the English endings 's, 't, 're, 've, 'm, 'll and
/// 'd. Whitespace only separates them. The bytes of a word, the last one marked as such, are merged
/// in the order of the list. Any text can be encoded. Unlike OpenAI's code, and like transformers',
/// it neither repairs wrongly decoded text nor replaces HTML's entities.
///
/// Source: openai/CLIP, clip/simple_tokenizer.py; transformers 5, CLIPTokenizer
class ClipTokenizer {
 public:
  /// @param vocabulary  vocab.json: an object of tokens and their numbers
  /// @param merges      merges.txt: a pair of tokens per line, the first to merge first; a first
  ///                    line with "#version" and lines after those that the vocabulary needs are
  ///                    ignored
  /// @throws dalle::Error if the numbers are not 0 to N - 1, the last two those of start-of-text
  ///         and end-of-text; if a byte has no token; if merges are missing, or one names an
  ///         unknown token
  ClipTokenizer(std::string_view vocabulary, std::string_view merges);

  /// Without start-of-text and end-of-text, which have the next two numbers.
  int64_t vocab_size() const { return vocab_size_; }

  /// Returns tokens in [0, vocab_size()]; none if the text is blank. Only a literal
  /// "<|startoftext|>" is the token vocab_size(). A literal "<|endoftext|>" ends the text, as it
  /// does for the models.
  /// @throws dalle::Error if `text` is not UTF-8
  std::vector<int64_t> encode(std::string_view text) const;

 private:
  void encode_words(std::string_view text, std::vector<int64_t>& tokens) const;
  void encode_word(std::string_view bytes, std::vector<int64_t>& tokens) const;

  int64_t vocab_size_ = 0;
  std::array<int64_t, 256> inner_bytes_{};         ///< tokens of bytes
  std::array<int64_t, 256> final_bytes_{};         ///< of those at the end of a word
  std::unordered_map<uint64_t, BpeMerge> merges_;  ///< of pairs; the first has the highest priority
};

}  // namespace dalle
