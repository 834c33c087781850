#pragma once

#include <cstdint>
#include <string>

#include "core/fields.h"

namespace dalle {

/// The caption tokenizer: a BPE trained on the data's captions, or an existing sentencepiece model.
struct TokenizerConfig {
  int64_t vocab_size = 16384;
  std::string model = "";
  double dropout = 0.1;
  int64_t max_training_captions = 1'000'000;

  bool operator==(const TokenizerConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("vocab_size", self.vocab_size,
          {.help = "maximum number of BPE tokens, including the 256 byte tokens; fewer if the "
                   "captions yield too few merges",
           .min = 258,
           .max = 16384,
           .paper = "16384 (section 2.2)"});
    visit("model", self.model,
          {.help = "path of an existing sentencepiece .model; empty: train one"});
    visit("dropout", self.dropout,
          {.help = "BPE dropout: probability of skipping a merge in training",
           .min = 0,
           .max = 1,
           .paper = "0.1 (section 2.2, footnote 5)"});
    visit("max_training_captions", self.max_training_captions,
          {.help = "maximum number of captions to train the BPE on, evenly spread over the data",
           .min = 1});
  }
};

}  // namespace dalle
