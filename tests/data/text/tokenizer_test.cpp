#include "data/text/tokenizer.h"

#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include "core/error.h"
#include "core/files.h"
#include "data/caption_grammar.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Tokens = std::vector<int64_t>;

CaptionIterator iterate(std::vector<std::string> captions) {
  return [captions = std::move(captions), next = size_t{0}]() mutable {
    return next < captions.size() ? std::optional(captions[next++]) : std::nullopt;
  };
}

std::string train(std::vector<std::string> captions, int64_t vocab_size) {
  TokenizerConfig config;
  config.vocab_size = vocab_size;
  return train_tokenizer(iterate(std::move(captions)), config);
}

std::vector<std::string> captions(int64_t count, uint64_t seed) {
  SeedStream random(seed);
  std::vector<std::string> list;
  for (int64_t i = 0; i < count; ++i) list.push_back(random_caption(random));
  return list;
}

/// A model that is trained once for all tests.
const std::string& trained_model() {
  static const std::string model = train(captions(3'000, 1), 800);
  return model;
}

using Oracle = sentencepiece::SentencePieceProcessor;

/// sentencepiece itself, with the given model.
std::unique_ptr<const Oracle> load_oracle(const std::string& model) {
  auto oracle = std::make_unique<Oracle>();
  EXPECT_TRUE(oracle->LoadFromSerializedProto(model).ok());
  return oracle;
}

const Oracle& trained_oracle() {
  static const auto oracle = load_oracle(trained_model());
  return *oracle;
}

std::string decode(const Tokens& tokens, const Oracle& oracle = trained_oracle()) {
  return oracle.DecodeIds(std::vector<int>(tokens.begin(), tokens.end()));
}

Tokens widen(const std::vector<int>& tokens) {
  return {tokens.begin(), tokens.end()};
}

std::vector<std::string> shapes() {
  std::vector<std::string> list;
  for (const std::string size : {"small", "large"})
    for (const std::string color : {"red", "blue"})
      for (const std::string shape : {"circle", "square"})
        list.push_back("a " + size + " " + color + " " + shape);
  return list;
}

TEST(Tokenizer, EncodesCaptionsLikeSentencepiece) {
  const Tokenizer tokenizer(trained_model());
  const auto& oracle = trained_oracle();
  for (const std::string& caption : captions(10'000, 2)) {
    const Tokens expected = widen(oracle.EncodeAsIds(caption));
    ASSERT_EQ(tokenizer.encode_with_dropout(caption, 0, 3), expected) << caption;
    ASSERT_EQ(tokenizer.encode(caption), expected) << caption;
  }
}

TEST(Tokenizer, EncodesRandomUnicodeLikeSentencepiece) {
  const Tokenizer tokenizer(trained_model());
  const auto& oracle = trained_oracle();
  SeedStream random(3);
  for (int i = 0; i < 5'000; ++i) {
    const std::string text = random_unicode(random);
    ASSERT_EQ(tokenizer.encode_with_dropout(text, 0, 3), widen(oracle.EncodeAsIds(text)))
        << testing::PrintToString(text);
  }
}

TEST(Tokenizer, NeverReturnsTheUnknownToken) {
  const Tokenizer tokenizer(trained_model());
  SeedStream random(4);
  for (int i = 0; i < 2'000; ++i) {
    const std::string text = "x" + random_unicode(random);
    for (const double dropout : {0.0, 0.3, 1.0}) {
      const Tokens tokens = tokenizer.encode_with_dropout(text, dropout, random());
      ASSERT_FALSE(tokens.empty());
      for (const int64_t token : tokens) ASSERT_TRUE(token > 0 && token < tokenizer.vocab_size());
    }
  }
}

TEST(Tokenizer, EverySegmentationDecodesToTheSameText) {
  const Tokenizer tokenizer(trained_model());
  SeedStream random(5);
  for (int i = 0; i < 2'000; ++i) {
    const std::string text = i % 2 == 0 ? random_caption(random) : random_unicode(random);
    const std::string normalized = decode(tokenizer.encode(text));
    for (const double dropout : {0.1, 0.5, 1.0})
      ASSERT_EQ(decode(tokenizer.encode_with_dropout(text, dropout, random())), normalized);
  }
}

TEST(Tokenizer, NormalizesByNfkcAndCaseFolding) {
  const Tokenizer tokenizer(trained_model());
  const auto normalized = [&](const std::string& text) {
    return decode(tokenizer.encode_with_dropout(text, 0.2, 1));
  };
  EXPECT_EQ(normalized("  A  Red\tCIRCLE\n"), "a red circle");
  EXPECT_EQ(normalized("ﬁnd Ⅷ ＡＢ Ω"), "find viii ab ω");
  EXPECT_EQ(normalized("cafe\xcc\x81"), "caf\xc3\xa9");  // a combining accent
  EXPECT_EQ(normalized("ｶﾞ"), "ガ");
  EXPECT_EQ(normalized("a\x01\x7f"
                       "b"),
            "ab");
  EXPECT_EQ(normalized("<unk> <0x41> ▅"), "<unk> <0x41> ▅");
  EXPECT_EQ(normalized(std::string("a\0b", 3)), std::string("a\0b", 3));
}

TEST(Tokenizer, ABlankCaptionHasNoTokens) {
  const Tokenizer tokenizer(trained_model());
  for (const std::string text : {"", " ", "\t\n", "\xe3\x80\x80"}) {
    EXPECT_EQ(tokenizer.encode(text), Tokens{});
    EXPECT_EQ(tokenizer.encode_with_dropout(text, 0.1, 1), Tokens{});
  }
}

TEST(Tokenizer, EncodesACaptionOfTenThousandWords) {
  const Tokenizer tokenizer(trained_model());
  const auto& oracle = trained_oracle();
  std::string text;
  for (const std::string& caption : captions(2'000, 6)) text += caption + " ";
  EXPECT_EQ(tokenizer.encode_with_dropout(text, 0, 1), widen(oracle.EncodeAsIds(text)));
  const std::string unbroken(100'000, 'a');
  EXPECT_EQ(tokenizer.encode_with_dropout(unbroken, 0, 1), widen(oracle.EncodeAsIds(unbroken)));
}

TEST(Tokenizer, RejectsInvalidUtf8) {
  const Tokenizer tokenizer(trained_model());
  for (const std::string text : {"ab\xff", "ab\xc3", "ab\xed\xa0\x80"}) {
    EXPECT_THAT(error_of([&] { tokenizer.encode(text); }),
                AllOf(HasSubstr("byte 2 of the caption is 0x"), HasSubstr("expected UTF-8")));
    EXPECT_THAT(error_of([&] { tokenizer.encode_with_dropout(text, 0.1, 1); }),
                HasSubstr("expected UTF-8"));
  }
}

TEST(Tokenizer, KeepsItsModelForTheCheckpoint) {
  const Tokenizer tokenizer(trained_model());
  EXPECT_EQ(tokenizer.model(), trained_model());
  const Tokenizer again(tokenizer.model());
  EXPECT_EQ(again.encode("a red tutu"), tokenizer.encode("a red tutu"));
}

TEST(LoadTokenizer, ReadsAFileAndNamesItInErrors) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "bpe.model", trained_model());
  EXPECT_EQ(load_tokenizer(folder / "bpe.model").encode("a dog"),
            Tokenizer(trained_model()).encode("a dog"));
  write_file_atomically(folder / "bad.model", "this is a text file");
  EXPECT_THAT(error_of([&] { load_tokenizer(folder / "bad.model"); }),
              HasSubstr("bad.model: tokenizer model: "));
  EXPECT_THAT(error_of([&] { load_tokenizer(folder / "none.model"); }),
              HasSubstr("none.model: cannot read: No such file"));
}

TEST(BpeDropout, IsAFunctionOfItsSeed) {
  const Tokenizer tokenizer(trained_model());
  const std::string text = "the enormous transparent lighthouse in front of a storefront";
  std::set<Tokens> segmentations;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Tokens tokens = tokenizer.encode_with_dropout(text, 0.1, seed);
    EXPECT_EQ(tokenizer.encode_with_dropout(text, 0.1, seed), tokens);
    segmentations.insert(tokens);
  }
  EXPECT_GT(segmentations.size(), 25);
}

TEST(BpeDropout, IsThreadSafe) {
  const Tokenizer tokenizer(trained_model());
  const std::vector<std::string> list = captions(200, 7);
  std::vector<std::vector<Tokens>> results(4);
  {
    std::vector<std::jthread> threads;
    for (std::vector<Tokens>& result : results)
      threads.emplace_back([&] {
        for (uint64_t i = 0; i < list.size(); ++i)
          result.push_back(tokenizer.encode_with_dropout(list[i], 0.1, i));
      });
  }
  for (const std::vector<Tokens>& result : results) EXPECT_EQ(result, results[0]);
}

TEST(BpeDropout, DropoutOneLeavesCharacters) {
  const Tokenizer tokenizer(trained_model());
  const Tokens tokens = tokenizer.encode_with_dropout("a red tutu", 1, 1);
  EXPECT_EQ(tokens.size(), 11);  // including the space before the first word
}

/// Counts the results of `draws` calls of `draw`.
template <class Draw>
std::map<Tokens, double> count_results(int draws, Draw&& draw) {
  std::map<Tokens, double> counts;
  for (int i = 0; i < draws; ++i) ++counts[draw(i)];
  return counts;
}

/// sentencepiece seeds its generator once per thread, so a new thread makes it reproducible.
template <class Action>
void with_seeded_oracle(Action&& action) {
  sentencepiece::SetRandomGeneratorSeed(1);
  const std::jthread thread(std::forward<Action>(action));
}

TEST(BpeDropout, HasTheSameDistributionAsSentencepiece) {
  const Tokenizer tokenizer(trained_model());
  const auto& oracle = trained_oracle();
  constexpr int kDraws = 20'000;
  for (const std::string text : {"lighthouse", "a red tutus"}) {
    std::map<Tokens, double> theirs;
    with_seeded_oracle([&] {
      theirs = count_results(kDraws,
                             [&](int) { return widen(oracle.SampleEncodeAsIds(text, -1, 0.3F)); });
    });
    const auto ours = count_results(kDraws, [&](int i) {
      return tokenizer.encode_with_dropout(text, 0.3, static_cast<uint64_t>(i));
    });
    // Chi-squared test of two samples of equal size; rare segmentations share a bin.
    double statistic = 0;
    int bins = 0;
    const auto add_bin = [&](double a, double b) {
      statistic += (a - b) * (a - b) / (a + b);
      ++bins;
    };
    double rare_ours = kDraws;
    double rare_theirs = kDraws;
    for (const auto& [tokens, count] : theirs) {
      const auto found = ours.find(tokens);
      const double own = found == ours.end() ? 0 : found->second;
      if (own + count < 40) continue;
      add_bin(own, count);
      rare_ours -= own;
      rare_theirs -= count;
    }
    if (rare_ours + rare_theirs > 0) add_bin(rare_ours, rare_theirs);
    EXPECT_GT(bins, 10);
    const double freedom = bins - 1;
    EXPECT_LT(statistic, freedom + 4 * std::sqrt(2 * freedom)) << text << ", " << bins << " bins";
  }
}

TEST(BpeDropout, LengthensCaptionsLikeSentencepiece) {
  const Tokenizer tokenizer(trained_model());
  const auto& oracle = trained_oracle();
  const std::vector<std::string> list = captions(4'000, 8);
  std::vector<double> added_ours;  // number of tokens that dropout adds to each caption
  std::vector<double> added_theirs;
  double length = 0;
  for (uint64_t i = 0; i < list.size(); ++i) {
    const auto plain = static_cast<double>(tokenizer.encode(list[i]).size());
    const auto dropped = static_cast<double>(tokenizer.encode_with_dropout(list[i], 0.1, i).size());
    length += plain / static_cast<double>(list.size());
    added_ours.push_back(dropped - plain);
  }
  with_seeded_oracle([&] {
    for (const std::string& text : list)
      added_theirs.push_back(static_cast<double>(oracle.SampleEncodeAsIds(text, -1, 0.1F).size()) -
                             static_cast<double>(oracle.EncodeAsIds(text).size()));
  });
  const auto moments = [](const std::vector<double>& values) {
    const auto n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double variance = 0;
    for (const double value : values) variance += (value - mean) * (value - mean) / (n - 1);
    return std::pair(mean, variance);
  };
  const auto [mean_ours, variance_ours] = moments(added_ours);
  const auto [mean_theirs, variance_theirs] = moments(added_theirs);
  EXPECT_GT(mean_ours, 0.05 * length);
  const double n = static_cast<double>(list.size());
  EXPECT_LT(std::abs(mean_ours - mean_theirs),
            4 * std::sqrt((variance_ours + variance_theirs) / n));
  EXPECT_NEAR(variance_ours / variance_theirs, 1, 0.15);
}

TEST(TrainTokenizer, LearnsFromEightCaptions) {
  const Tokenizer tokenizer(train(shapes(), 1024));
  const auto oracle = load_oracle(tokenizer.model());
  EXPECT_GT(tokenizer.vocab_size(), 257);
  EXPECT_LT(tokenizer.vocab_size(), 1024);
  for (const std::string& caption : shapes()) {
    EXPECT_EQ(tokenizer.encode(caption).size(), 4) << caption;  // one token per word
    EXPECT_EQ(decode(tokenizer.encode_with_dropout(caption, 0.5, 1), *oracle), caption);
  }
}

TEST(TrainTokenizer, LearnsFromOneLetter) {
  const Tokenizer tokenizer(train({"a"}, 16384));
  EXPECT_EQ(decode(tokenizer.encode("a b"), *load_oracle(tokenizer.model())), "a b");
}

TEST(TrainTokenizer, RespectsTheVocabularySize) {
  EXPECT_EQ(Tokenizer(trained_model()).vocab_size(), 800);
}

TEST(TrainTokenizer, TheSameCaptionsGiveTheSameBytes) {
  EXPECT_EQ(train(captions(500, 9), 500), train(captions(500, 9), 500));
}

TEST(TrainTokenizer, RespectsTheMaximumNumberOfCaptions) {
  TokenizerConfig config;
  config.max_training_captions = 8;
  std::vector<std::string> list = shapes();
  list.push_back("a zebra");
  EXPECT_EQ(train_tokenizer(iterate(list), config), train(shapes(), config.vocab_size));
}

TEST(TrainTokenizer, UsesEveryCaption) {
  // A caption too long for sentencepiece, one with its reserved mark, and one truncated in the
  // middle of a character.
  const std::string word(70'000, 'z');
  const std::string marked = "▅ qqqq ▅";
  const std::string truncated = std::string(4095, 'y') + "é";
  const Tokenizer tokenizer(train({word, marked, truncated}, 400));
  for (const std::string text : {"zz", "qq", "yy"})
    EXPECT_EQ(tokenizer.encode("# " + text).size(), 3) << text;  // a space, a byte, and one piece
}

TEST(TrainTokenizer, RequiresCaptions) {
  const std::vector<std::vector<std::string>> nothing = {{}, {""}, {"", " \t", "\xe2\x96\x85"}};
  for (const std::vector<std::string>& none : nothing)
    EXPECT_EQ(error_of([&] { train(none, 500); }),
              fmt::format("tokenizer: found no words in {} captions, expected some to train the "
                          "BPE",
                          none.size()));
}

TEST(TrainTokenizer, RequiresRoomForEveryCharacter) {
  EXPECT_EQ(error_of([] { train({"abcdefghijklmn"}, 260); }),
            "tokenizer.vocab_size: found 260, expected at least 272: every byte and every distinct "
            "character of the captions needs a token");
  EXPECT_NO_THROW(train({"abcdefghijklmn"}, 272));
}

// Captions from the web contain thousands of distinct characters, most of them once.
TEST(TrainTokenizer, EncodesRareCharactersAsBytes) {
  std::vector<std::string> list(2'000, "a red circle on a blue square");
  for (int i = 0; i < 600; ++i)  // 600 distinct characters, 1% of the text
    list.push_back({static_cast<char>(0xe4), static_cast<char>(0x80 + i / 64),
                    static_cast<char>(0x80 + i % 64)});
  const Tokenizer tokenizer(train(list, 400));
  EXPECT_LE(tokenizer.vocab_size(), 400);
  EXPECT_LE(tokenizer.encode("a red circle").size(), 4u);  // words were learned
  EXPECT_EQ(decode(tokenizer.encode(list.back()), *load_oracle(tokenizer.model())), list.back());
}

TEST(TrainTokenizer, RejectsInvalidUtf8) {
  EXPECT_THAT(error_of([] { train({"a", "b\xff"}, 500); }), HasSubstr("expected UTF-8"));
}

}  // namespace
}  // namespace dalle
