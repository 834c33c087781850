#include <algorithm>
#include <string>

#include "data/text/tokenizer.h"
#include "fuzz/fuzz.h"

namespace dalle {

/// A model that our checks let pass harms sentencepiece neither in loading nor in use. (Only our
/// code is compiled with sanitizers: sentencepiece shows its errors by crashing.)
void fuzz(std::string_view input) {
  accepts([&] {
    const Tokenizer tokenizer{std::string(input)};
    const std::string text = "A red Circle\xef\xbc\xa1, \xe4\xb8\xad 12 \xe2\x96\x81 aaaa";
    for (const double dropout : {0.0, 0.5}) {
      const auto tokens = tokenizer.encode_with_dropout(text, dropout, /*seed=*/1);
      DALLE_CHECK(std::ranges::all_of(
          tokens, [&](int64_t token) { return token >= 0 && token < tokenizer.vocab_size(); }));
    }
    tokenizer.encode(text);
  });
}

}  // namespace dalle
