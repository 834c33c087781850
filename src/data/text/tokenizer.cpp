#include "data/text/tokenizer.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>
#include <unordered_map>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "core/error.h"
#include "core/files.h"
#include "core/utf8.h"
#include "data/text/bpe_dropout.h"
#include "data/text/bpe_model.h"

namespace dalle {
namespace {

// <unk> and the 256 bytes. A vocabulary of this size has learned nothing.
constexpr int64_t kPiecesBeforeLearning = 257;

// BPE training truncates captions to this length: sentencepiece ignores longer ones and aborts the
// process for words of more than 65,535 characters.
constexpr size_t kMaxTrainingBytes = 4096;

void check_utf8(std::string_view text) {
  if (const size_t place = first_invalid_utf8(text); place < text.size())
    throw Error("byte {} of the caption is {:#04x}, expected UTF-8", place,
                static_cast<uint8_t>(text[place]));
}

/// The message of sentencepiece without the source line: "Internal: file(1) [x > 0] message".
std::string reason(const sentencepiece::util::Status& status) {
  const std::string message = status.ToString();
  const size_t end = message.find("] ");
  const bool has_text = end != std::string::npos && end + 2 < message.size();
  return has_text ? message.substr(end + 2) : message;
}

void check_ok(const sentencepiece::util::Status& status, std::string_view what) {
  if (!status.ok()) throw Error("{}: {}", what, reason(status));
}

/// sentencepiece reserves U+2585 to mark rare characters and ignores captions that contain it.
/// Replaces it by a space in training; encoding represents it by its three bytes.
std::string without_reserved_mark(std::string_view caption) {
  constexpr std::string_view kMark = "\xe2\x96\x85";
  std::string text(caption);
  for (size_t at = 0; (at = text.find(kMark, at)) != std::string::npos;)
    text.replace(at, kMark.size(), 1, ' ');
  return text;
}

std::vector<std::string> read_captions(const CaptionIterator& captions, int64_t count) {
  std::vector<std::string> list;
  while (static_cast<int64_t>(list.size()) < count) {
    const std::optional<std::string> caption = captions();
    if (!caption) break;
    check_utf8(*caption);
    list.push_back(without_reserved_mark(utf8_prefix(*caption, kMaxTrainingBytes)));
  }
  return list;
}

/// Returns the share of the captions' characters that get tokens of their own: all, unless the
/// distinct characters would fill more than half of the vocabulary. The rarest characters are then
/// encoded as bytes, like those that do not occur at all, but never more than 2% of the text: a
/// vocabulary without room for the other 98% is too small.
double character_coverage(const std::vector<std::string>& captions, int64_t vocab_size) {
  std::unordered_map<std::string_view, int64_t> uses;
  int64_t total = 0;
  for (const std::string& caption : captions)
    for (size_t begin = 0; begin < caption.size(); ++total) {
      const size_t length = utf8_length(caption[begin]);
      ++uses[std::string_view(caption).substr(begin, length)];
      begin += length;
    }
  const auto room =
      static_cast<size_t>(std::max<int64_t>(0, vocab_size - kPiecesBeforeLearning)) / 2;
  if (uses.size() <= room) return 1.0;
  std::vector<int64_t> counts;
  for (const auto& [character, count] : uses) counts.push_back(count);
  std::ranges::sort(counts, std::greater());
  const int64_t covered = std::accumulate(counts.begin(), counts.begin() + room, int64_t{0});
  constexpr double kMinCoverage = 0.98;
  return std::max(kMinCoverage, static_cast<double>(covered) / static_cast<double>(total));
}

[[noreturn]] void fail_without_captions(size_t count) {
  throw Error("tokenizer: found no words in {} captions, expected some to train the BPE", count);
}

}  // namespace

struct Tokenizer::Implementation {
  explicit Implementation(std::string bytes)
      : model(std::move(bytes)), merges(read_bpe_model(model)) {
    check_ok(processor.LoadFromSerializedProto(model), "not a sentencepiece model");
  }

  std::string model;
  BpeMerges merges;
  sentencepiece::SentencePieceProcessor processor;
};

Tokenizer::Tokenizer(std::string model) try
    : implementation_(std::make_unique<Implementation>(std::move(model))) {
} catch (const Error& error) {
  throw Error("tokenizer model: {}", error.what());
}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(implementation_->merges.vocabulary().size());
}

std::vector<int64_t> Tokenizer::encode(std::string_view text) const {
  check_utf8(text);
  // Twice as fast as encode_with_dropout() without dropout, and its oracle in tests.
  std::vector<int> tokens;
  check_ok(implementation_->processor.Encode(text, &tokens), "tokenizer: cannot encode");
  return {tokens.begin(), tokens.end()};
}

std::vector<int64_t> Tokenizer::encode_with_dropout(std::string_view text, double dropout,
                                                    uint64_t seed) const {
  check_utf8(text);
  // With dropout 1, sentencepiece returns the characters of the normalized text and uses no random
  // numbers.
  std::vector<int> characters;
  check_ok(implementation_->processor.SampleEncode(text, -1, 1.0F, &characters),
           "tokenizer: cannot encode");
  SeedStream random(seed);
  return implementation_->merges.merge(characters, dropout, random);
}

const std::string& Tokenizer::model() const {
  return implementation_->model;
}

Tokenizer load_tokenizer(const std::filesystem::path& path) {
  std::string model = read_file(path);
  return prefix_errors(path.string(), [&] { return Tokenizer(std::move(model)); });
}

std::string train_tokenizer(const CaptionIterator& captions, const TokenizerConfig& config) {
  const std::vector<std::string> list = read_captions(captions, config.max_training_captions);
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(config.vocab_size)},
      {"hard_vocab_limit", "false"},  // the captions may contain fewer merges
      {"normalization_rule_name", "nmt_nfkc_cf"},
      {"byte_fallback", "true"},
      {"character_coverage", fmt::format("{}", character_coverage(list, config.vocab_size))},
      {"max_sentence_length", std::to_string(kMaxTrainingBytes)},
      {"unk_id", "0"},  // required by sentencepiece, but never used with byte fallback
      {"bos_id", "-1"},
      {"eos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", "1"},
      {"minloglevel", "3"},  // errors are returned as a status
  };
  std::string model;
  if (list.end() ==
      std::find_if(list.begin(), list.end(), [](const auto& s) { return !s.empty(); }))
    fail_without_captions(list.size());
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, list, &model);
  if (!status.ok()) {
    const std::string why = reason(status);
    int64_t needed = 0;
    if (std::sscanf(why.c_str(), "Vocabulary size is smaller than required_chars. %*d vs %ld.",
                    &needed) == 1)
      throw Error(
          "tokenizer.vocab_size: found {}, expected at least {}: every byte and every distinct "
          "character of the captions needs a token",
          config.vocab_size, needed);
    throw Error("tokenizer: cannot train the BPE on {} captions: {}", list.size(), why);
  }
  if (Tokenizer(model).vocab_size() <= kPiecesBeforeLearning) fail_without_captions(list.size());
  return model;
}

}  // namespace dalle
