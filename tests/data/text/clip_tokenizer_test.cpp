// tests/fixtures/write_clip.py wrote the vocabulary, and the tokens that transformers'
// CLIPTokenizer finds of captions.

#include "data/text/clip_tokenizer.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "error_of.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kVocabulary = read_file("tests/fixtures/clip/vocab.json");
const std::string kMerges = read_file("tests/fixtures/clip/merges.txt");

TEST(ClipTokenizerTest, FindsTheTokensThatTransformersFinds) {
  const ClipTokenizer tokenizer(kVocabulary, kMerges);
  ASSERT_EQ(tokenizer.vocab_size(), 648);
  const json captions = json::parse(read_file("tests/fixtures/clip/captions.json"));
  EXPECT_GE(captions.size(), 80U);
  for (const json& one : captions) {
    const auto expected = one.at("tokens").get<std::vector<int64_t>>();  // with the special tokens
    std::vector<int64_t> found = tokenizer.encode(one.at("caption").get<std::string>());
    found.insert(found.begin(), 648);
    found.push_back(649);
    EXPECT_EQ(found, expected) << one.at("caption");
  }
}

TEST(ClipTokenizerTest, StopsAtALiteralEndOfText) {
  const ClipTokenizer tokenizer(kVocabulary, kMerges);
  EXPECT_EQ(tokenizer.encode("a cat<|endoftext|> and a dog"), tokenizer.encode("a cat"));
  EXPECT_EQ(tokenizer.encode("<|endoftext|>").size(), 0U);
}

TEST(ClipTokenizerTest, WordsOfAnyLengthTakeLittleTime) {
  const ClipTokenizer tokenizer(kVocabulary, kMerges);
  const std::vector<int64_t> tokens = tokenizer.encode(std::string(300'000, 'a'));
  EXPECT_GT(tokens.size(), 1000U);
}

TEST(ClipTokenizerTest, RefusesTextThatIsNotUtf8) {
  EXPECT_THAT(error_of([] { ClipTokenizer(kVocabulary, kMerges).encode("a\xff"); }),
              HasSubstr("byte 1 of the caption is 0xff, expected UTF-8"));
}

TEST(ClipTokenizerTest, IgnoresTheHeaderWindowsLineEndsAndMergesBeyondTheVocabulary) {
  std::string merges = kMerges.substr(kMerges.find('\n') + 1) + "zzz qqq\nnot a merge\n";
  for (size_t at = 0; (at = merges.find('\n', at)) != merges.npos; at += 2) merges.insert(at, "\r");
  EXPECT_EQ(ClipTokenizer(kVocabulary, merges).encode("the quick brown fox"),
            ClipTokenizer(kVocabulary, kMerges).encode("the quick brown fox"));
}

std::string error_of_files(const std::string& vocabulary, const std::string& merges) {
  return error_of([&] { ClipTokenizer(vocabulary, merges); });
}

std::string vocabulary_with(const std::function<void(json&)>& change) {
  json vocabulary = json::parse(kVocabulary);
  change(vocabulary);
  return vocabulary.dump();
}

TEST(ClipTokenizerTest, RefusesInvalidVocabularies) {
  for (const std::string text : {"", "[1]", "{\"a\": ", "\xff"})
    EXPECT_THAT(error_of_files(text, kMerges), HasSubstr("not a JSON object")) << text;
  EXPECT_THAT(error_of_files("{}", kMerges), HasSubstr("found 0 tokens without"));
  const auto error_with = [](const std::function<void(json&)>& change) {
    return error_of_files(vocabulary_with(change), kMerges);
  };
  EXPECT_THAT(error_with([](json& tokens) { tokens["a"] = 650; }),
              HasSubstr("token \"a\": found ID 650, expected an integer from 0 to 649"));
  for (const json& number : {json(-1), json(1.5), json("1"), json(nullptr), json(1e300)})
    EXPECT_THAT(error_with([&](json& tokens) { tokens["a"] = number; }), HasSubstr("token \"a\""));
  EXPECT_THAT(error_with([](json& tokens) { tokens["a"] = tokens["b"]; }),
              HasSubstr("token \"b\": duplicate ID 65"));
  EXPECT_THAT(error_with([](json& tokens) {
                tokens["\u00e9x"] = tokens["\u00e9"];
                tokens.erase("\u00e9");
              }),
              HasSubstr("650 tokens without \"\u00e9\", expected CLIP's vocabulary"));
  EXPECT_THAT(error_with([](json& tokens) { std::swap(tokens["a"], tokens["<|endoftext|>"]); }),
              HasSubstr("token \"<|endoftext|>\": found ID 64, expected 649"));
}

TEST(ClipTokenizerTest, RefusesInvalidMerges) {
  EXPECT_THAT(error_of_files(kVocabulary, ""), HasSubstr("found 0 merges, expected 136"));
  const std::string half = kMerges.substr(0, kMerges.find('\n', kMerges.size() / 2) + 1);
  EXPECT_THAT(error_of_files(kVocabulary, half), HasSubstr("merges, expected 136"));
  for (const std::string line : {"a", "a ", " a", "a b c", ""})
    EXPECT_THAT(error_of_files(kVocabulary, "#version: 0.2\n" + line + "\n" + kMerges),
                HasSubstr("line 2 of the merges: found"))
        << line;
  EXPECT_THAT(error_of_files(kVocabulary, "a zebra\n" + kMerges),
              HasSubstr("line 1 of the merges: \"zebra\" is not in the vocabulary"));
  EXPECT_THAT(error_of_files(kVocabulary, "z q\n" + kMerges),
              HasSubstr("line 1 of the merges: \"zq\" is not in the vocabulary"));
}

}  // namespace
}  // namespace dalle
