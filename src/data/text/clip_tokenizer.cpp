#include "data/text/clip_tokenizer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"
#include "data/text/unicode.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

constexpr std::string_view kStartOfText = "<|startoftext|>", kEndOfText = "<|endoftext|>";
constexpr std::string_view kEndOfWord = "</w>";
constexpr int64_t kByteTokens = 512;  // each byte, inside and at the end of a word

using Vocabulary = std::unordered_map<std::string, int64_t>;

/// The character that stands for a byte in the files: itself if it is printable in Latin-1.
std::string printed_byte(uint8_t byte) {
  const auto is_printed = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  };
  char32_t point = byte;
  if (!is_printed(byte)) {
    point = 256;
    for (int b = 0; b < byte; ++b) point += is_printed(b) ? 0 : 1;
  }
  return utf8_of({&point, 1});
}

/// The numbers of the tokens, which are 0 to N - 1.
Vocabulary read_vocabulary(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw Error("not a JSON object that maps tokens to IDs");
  Vocabulary vocabulary;
  std::vector<bool> used(json.size());
  for (const auto& [token, number] : json.items()) {
    if (!number.is_number_unsigned() || number.get<uint64_t>() >= json.size())
      throw Error("token {:?}: found ID {}, expected an integer from 0 to {}", token, number.dump(),
                  json.size() - 1);
    const auto index = number.get<size_t>();
    if (used[index]) throw Error("token {:?}: duplicate ID {}", token, index);
    used[index] = true;
    vocabulary.emplace(token, static_cast<int64_t>(index));
  }
  return vocabulary;
}

int64_t token_of(const Vocabulary& vocabulary, const std::string& token) {
  const auto found = vocabulary.find(token);
  if (found == vocabulary.end())
    throw Error("found {} tokens without {:?}, expected CLIP's vocabulary", vocabulary.size(),
                token);
  return found->second;
}

/// @return  the number of tokens before start-of-text and end-of-text
int64_t check_special_tokens(const Vocabulary& vocabulary) {
  const auto size = static_cast<int64_t>(vocabulary.size());
  for (const auto& [token, expected] :
       {std::pair(kStartOfText, size - 2), std::pair(kEndOfText, size - 1)})
    if (const int64_t found = token_of(vocabulary, std::string(token)); found != expected)
      throw Error("token {:?}: found ID {}, expected {}; the special tokens have the last two IDs",
                  token, found, expected);
  return size - 2;
}

uint64_t pair_key(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

/// The length of the word at the beginning of a text that does not begin with whitespace: the first
/// of these that matches, as in the regular expression of the released code.
size_t word_length(std::u32string_view text) {
  for (const std::u32string_view word : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"})
    if (text.starts_with(word)) return word.size();
  const CharacterKind kind = kind_of(text.front());
  if (kind == CharacterKind::kNumber) return 1;
  const auto ends = [&](char32_t c) { return kind_of(c) != kind; };
  return static_cast<size_t>(std::ranges::find_if(text, ends) - text.begin());
}

}  // namespace

ClipTokenizer::ClipTokenizer(std::string_view vocabulary_json, std::string_view merge_lines) {
  const Vocabulary vocabulary = read_vocabulary(vocabulary_json);
  vocab_size_ = check_special_tokens(vocabulary);
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string printed = printed_byte(static_cast<uint8_t>(byte));
    inner_bytes_[byte] = token_of(vocabulary, printed);
    final_bytes_[byte] = token_of(vocabulary, printed.append(kEndOfWord));
  }
  const int64_t needed = vocab_size_ - kByteTokens;
  int64_t rank = 0;
  for (size_t line = 1; rank < needed; ++line) {
    if (merge_lines.empty())
      throw Error("found {} merges, expected {}, one for each token that is not a byte", rank,
                  needed);
    std::string_view text = merge_lines.substr(0, merge_lines.find('\n'));
    merge_lines.remove_prefix(std::min(text.size() + 1, merge_lines.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (line == 1 && text.find("#version") != text.npos) continue;
    const size_t space = text.find(' ');
    if (space == 0 || space >= text.size() - 1 || text.find(' ', space + 1) != text.npos)
      throw Error("line {} of the merges: found {:?}, expected two tokens", line, text);
    const std::string left(text.substr(0, space)), right(text.substr(space + 1));
    for (const std::string& token : {left, right, left + right})
      if (!vocabulary.contains(token))
        throw Error("line {} of the merges: {:?} is not in the vocabulary", line, token);
    merges_.emplace(pair_key(vocabulary.at(left), vocabulary.at(right)),
                    BpeMerge{-static_cast<double>(rank++), vocabulary.at(left + right)});
  }
}

std::vector<int64_t> ClipTokenizer::encode(std::string_view text) const {
  if (const size_t place = first_invalid_utf8(text); place < text.size())
    throw Error("byte {} of the caption is {:#04x}, expected UTF-8", place,
                static_cast<uint8_t>(text[place]));
  text = text.substr(0, text.find(kEndOfText));
  std::vector<int64_t> tokens;
  for (size_t start; (start = text.find(kStartOfText)) != text.npos;) {
    encode_words(text.substr(0, start), tokens);
    tokens.push_back(vocab_size_);
    text.remove_prefix(start + kStartOfText.size());
  }
  encode_words(text, tokens);
  return tokens;
}

void ClipTokenizer::encode_words(std::string_view text, std::vector<int64_t>& tokens) const {
  const std::u32string lower = composed_lower_case(text);
  for (std::u32string_view rest = lower; !rest.empty();) {
    const bool is_space = kind_of(rest.front()) == CharacterKind::kSpace;
    const size_t length = is_space ? 1 : word_length(rest);
    if (!is_space) encode_word(utf8_of(rest.substr(0, length)), tokens);
    rest.remove_prefix(length);
  }
}

void ClipTokenizer::encode_word(std::string_view bytes, std::vector<int64_t>& tokens) const {
  std::vector<BpeSymbol> symbols;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto& tokens_of_bytes = i + 1 == bytes.size() ? final_bytes_ : inner_bytes_;
    symbols.push_back({i, 1, tokens_of_bytes[static_cast<uint8_t>(bytes[i])]});
  }
  const auto merge_of = [&](const BpeSymbol& left, const BpeSymbol& right) {
    const auto found = merges_.find(pair_key(left.token, right.token));
    return found == merges_.end() ? std::nullopt : std::optional(found->second);
  };
  merge_pairs(symbols, merge_of, [] { return false; });
  for (const BpeSymbol& symbol : symbols) tokens.push_back(symbol.token);
}

}  // namespace dalle
