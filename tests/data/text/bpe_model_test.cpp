#include "data/text/bpe_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "core/error.h"
#include "core/seeds.h"
#include "data/caption_grammar.h"
#include "data/text/tokenizer.h"
#include "error_of.h"

namespace dalle {
namespace {

using testing::HasSubstr;

class Captions : public sentencepiece::SentenceIterator {
 public:
  bool done() const override { return left_ == 0; }
  void Next() override {
    --left_;
    caption_ = random_caption(random_);
  }
  const std::string& value() const override { return caption_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  int left_ = 400;
  SeedStream random_{1};
  std::string caption_ = random_caption(random_);
};

/// A model trained by sentencepiece itself, with the given options.
std::string train(std::unordered_map<std::string, std::string> options) {
  options.insert({{"vocab_size", "500"},
                  {"hard_vocab_limit", "false"},
                  {"byte_fallback", "true"},
                  {"character_coverage", "1.0"},
                  {"num_threads", "1"},
                  {"minloglevel", "3"}});
  Captions captions;
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &captions, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

const std::string& bpe_model() {
  static const std::string model =
      train({{"model_type", "bpe"}, {"normalization_rule_name", "nmt_nfkc_cf"}, {"bos_id", "-1"}});
  return model;
}

/// A field of fewer than 128 bytes.
std::string field(int number, const std::string& content) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(content.size()) +
         content;
}

/// Trainer settings for model type 2 (field 3) with byte fallback (field 35).
std::string bpe_settings() {
  return field(2, "\x18\x02\x98\x02\x01");
}

std::string piece(const std::string& text, char kind) {
  return field(1, field(1, text) + "\x18" + kind);
}

TEST(BpeModel, MatchesThePiecesThatSentencepieceReads) {
  const std::vector<Piece> pieces = read_bpe_model(bpe_model());
  sentencepiece::SentencePieceProcessor oracle;
  ASSERT_TRUE(oracle.LoadFromSerializedProto(bpe_model()).ok());
  ASSERT_EQ(static_cast<int>(pieces.size()), oracle.GetPieceSize());
  for (int i = 0; i < oracle.GetPieceSize(); ++i) {
    const Piece& found = pieces[static_cast<size_t>(i)];
    EXPECT_EQ(found.text, oracle.IdToPiece(i));
    EXPECT_EQ(found.score, oracle.GetScore(i));
    EXPECT_EQ(found.kind == PieceKind::kByte, oracle.IsByte(i));
    EXPECT_EQ(found.kind == PieceKind::kControl, oracle.IsControl(i));
    EXPECT_EQ(found.kind == PieceKind::kUnknown, oracle.IsUnknown(i));
  }
}

TEST(BpeModel, EncodesUserDefinedPiecesLikeSentencepiece) {
  const std::string model = train({{"model_type", "bpe"},
                                   {"user_defined_symbols", "red,s,<tag>,é,sto"},
                                   {"control_symbols", "<ctl>"},
                                   {"normalization_rule_name", "identity"}});
  const Tokenizer tokenizer(model);
  sentencepiece::SentencePieceProcessor oracle;
  ASSERT_TRUE(oracle.LoadFromSerializedProto(model).ok());
  SeedStream random(2);
  for (int i = 0; i < 2'000; ++i) {
    const std::string text =
        random_caption(random) + (i % 3 == 0 ? " <tag><ctl> redredstos" : " \xc3\xa9t\xc3\xa9 ");
    const std::vector<int> expected = oracle.EncodeAsIds(text);
    ASSERT_EQ(tokenizer.encode_with_dropout(text, 0, 1),
              std::vector<int64_t>(expected.begin(), expected.end()))
        << text;
  }
}

TEST(BpeModel, RejectsModelsOfOtherTypes) {
  for (const std::string type : {"unigram", "char"})
    EXPECT_EQ(error_of([&] {
                Tokenizer tokenizer(train({{"model_type", type}}));
              }),
              "tokenizer model: found a model of type " + type + ", expected bpe");
  EXPECT_THAT(error_of([] { read_bpe_model(field(2, "\x18\x09")); }), HasSubstr("of type 9"));
  EXPECT_THAT(error_of([] { read_bpe_model(field(2, "")); }), HasSubstr("of type unigram"));
}

TEST(BpeModel, RejectsAModelWithoutByteFallback) {
  const std::string model = train({{"model_type", "bpe"}, {"byte_fallback", "false"}});
  EXPECT_THAT(error_of([&] { Tokenizer tokenizer(model); }),
              HasSubstr("tokenizer model: found a BPE model without byte fallback"));
}

TEST(BpeModel, RejectsUnsupportedPieces) {
  const auto error_with = [](const std::string& pieces) {
    return error_of([&] { Tokenizer tokenizer(bpe_settings() + pieces); });
  };
  EXPECT_THAT(error_with(""), HasSubstr("found no pieces"));
  EXPECT_THAT(error_with(piece("ab", 5)), HasSubstr("\"ab\": marked as unused"));
  EXPECT_THAT(error_with(piece("ab", 7)), HasSubstr("\"ab\": found type 7, expected 1 to 6"));
  EXPECT_THAT(error_with(piece({"a\0", 2}, 4)), HasSubstr("must not contain NUL"));
  EXPECT_THAT(error_with(piece("ab", 1)),
              HasSubstr("found no piece for byte 0x00, expected one for each of the 256 bytes"));
  EXPECT_THAT(error_with(piece("<0x4g>", 6)),
              HasSubstr("byte piece \"<0x4g>\": expected a form like <0x41>"));
}

TEST(BpeModel, RejectsFilesThatAreNotModels) {
  EXPECT_THAT(error_of([] { Tokenizer tokenizer(""); }), HasSubstr("of type unigram"));
  EXPECT_THAT(error_of([] { Tokenizer tokenizer("name: shapes-64\nseed: 1\n"); }),
              HasSubstr("tokenizer model: found a field of wire type 6"));
  EXPECT_THAT(error_of([] { Tokenizer tokenizer(std::string(12, '\xff')); }),
              HasSubstr("found a number of more than 64 bits"));
  EXPECT_THAT(error_of([] { read_bpe_model("\x08\x01"); }),
              HasSubstr("field 1: found wire type 0, expected 2"));
}

TEST(BpeModel, RejectsTruncatedModels) {
  const std::string& model = bpe_model();
  for (size_t size = 1; size < model.size(); size += 2'497)
    EXPECT_NE(error_of([&] { Tokenizer tokenizer(model.substr(0, size)); }), "no error") << size;
}

TEST(BpeModel, CorruptModelsAreRejectedOrHarmless) {
  const std::string& intact = bpe_model();
  SeedStream random(3);
  int rejected = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::string model = intact;
    for (int flip = 0; flip < 3; ++flip)
      model[random.below(model.size())] ^= static_cast<char>(1 << random.below(8));
    try {
      const Tokenizer tokenizer(model);
      for (int i = 0; i < 20; ++i)
        tokenizer.encode_with_dropout(random_unicode(random), 0.1, random());
    } catch (const Error&) {
      ++rejected;
    }
  }
  EXPECT_GT(rejected, kTrials / 10);
  EXPECT_LT(rejected, kTrials);
}

}  // namespace
}  // namespace dalle
