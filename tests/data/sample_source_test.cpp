#include "data/sample_source.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/files.h"
#include "data/batch_loader.h"
#include "data/code_cache.h"
#include "data/noise_dataset.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kImageSize = 32;

Tokenizer train_on_noise() {
  int64_t next = 0;
  const auto captions = [&]() -> std::optional<std::string> {
    if (next == 200) return std::nullopt;
    return fmt::format("some image {} of noise", next++);
  };
  return Tokenizer(train_tokenizer(captions, {.vocab_size = 300}));
}

const Tokenizer& trained_tokenizer() {
  static const Tokenizer tokenizer = train_on_noise();
  return tokenizer;
}

class SampleSourceTest : public testing::Test {
 protected:
  SampleSource source(SampleSourceOptions options = {}) {
    options.image_size = kImageSize;
    options.caption_length = std::min<int64_t>(options.caption_length, 40);
    return SampleSource(dataset, &tokenizer, skipped, options);
  }

  /// The index of the raw sample, which all captions contain.
  static int64_t index_of(const Sample& sample) {
    const size_t digit = sample.text.find_first_of("0123456789");
    return std::stoll(sample.text.substr(digit));
  }

  at::Tensor padded(std::vector<int64_t> tokens, int64_t length = 40) {
    tokens.resize(static_cast<size_t>(length), kPadToken);
    return torch::tensor(tokens);
  }

  static void expect_equal(const Sample& a, const Sample& b) {
    EXPECT_EQ(a.position, b.position);
    EXPECT_EQ(a.text, b.text);
    ASSERT_EQ(a.image.defined(), b.image.defined());
    ASSERT_EQ(a.caption.defined(), b.caption.defined());
    EXPECT_TRUE(!a.image.defined() || torch::equal(a.image, b.image));
    EXPECT_TRUE(!a.caption.defined() || torch::equal(a.caption, b.caption));
  }

  int64_t skipped_count(const char* file = "skipped.jsonl") {
    const std::string lines = read_file(folder / file);
    return std::ranges::count(lines, '\n');
  }

  TemporaryDirectory folder;
  NoiseDataset dataset{20};
  const Tokenizer& tokenizer = trained_tokenizer();
  SkippedSamples skipped{folder / "skipped.jsonl", 20, 1.0};
};

TEST_F(SampleSourceTest, EveryEpochContainsEverySampleOnce) {
  const SampleSource samples = source();
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < 20; ++i) {
      const Sample sample = samples.at(20 * epoch + i);
      EXPECT_EQ(sample.position, 20 * epoch + i);
      EXPECT_EQ(index_of(sample), samples.order().index(sample.position));
      EXPECT_EQ(sample.image.sizes(), (at::IntArrayRef{3, kImageSize, kImageSize}));
      EXPECT_EQ(sample.image.scalar_type(), torch::kByte);
      EXPECT_FALSE(sample.codes.defined());
      seen.insert(index_of(sample));
    }
    EXPECT_EQ(seen.size(), 20u);
  }
}

TEST_F(SampleSourceTest, IsAFunctionOfThePositionAlone) {
  const SampleSource once = source({.bpe_dropout = 0.3});
  const SampleSource again = source({.bpe_dropout = 0.3});
  std::vector<Sample> forwards;
  for (int64_t position = 0; position < 50; ++position) forwards.push_back(once.at(position));
  for (int64_t position = 49; position >= 0; --position)
    expect_equal(again.at(position), forwards[static_cast<size_t>(position)]);
}

TEST_F(SampleSourceTest, MakesTheSameBatchesWithAnyNumberOfWorkers) {
  dataset.unreadable = {3, 11};
  const SampleSource samples = source({.bpe_dropout = 0.3});
  const auto batches = [&](int64_t workers) {
    BatchLoader loader([&](int64_t position) { return samples.at(position); },
                       {.batch_size = 7, .workers = workers, .prefetch = 2});
    std::vector<Batch> made;
    for (int i = 0; i < 6; ++i) made.push_back(loader.next());
    return made;
  };
  const std::vector<Batch> expected = batches(1);
  for (const int64_t workers : {2, 5}) {
    const std::vector<Batch> found = batches(workers);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(torch::equal(found[i].images, expected[i].images));
      EXPECT_TRUE(torch::equal(found[i].captions, expected[i].captions));
      EXPECT_EQ(found[i].texts, expected[i].texts);
    }
  }
}

TEST_F(SampleSourceTest, KeepsTheOrderOfTheDataWithoutShuffling) {
  const SampleSource samples = source({.shuffle = false, .crop = CropKind::kCenter});
  for (int64_t position = 0; position < 45; ++position)
    EXPECT_EQ(index_of(samples.at(position)), position % 20);
  EXPECT_TRUE(torch::equal(samples.at(3).image, samples.at(23).image)) << "a central crop";
}

TEST_F(SampleSourceTest, UsesANewCropInEveryEpoch) {
  const SampleSource samples = source({.shuffle = false, .crop = CropKind::kDvae});
  int different = 0;
  for (int64_t i = 0; i < 20; ++i)
    different += !torch::equal(samples.at(i).image, samples.at(20 + i).image);
  EXPECT_GE(different, 18);  // random crops may coincide
}

TEST_F(SampleSourceTest, SamplesANumberedCropInEveryEpoch) {
  const SampleSource samples =
      source({.shuffle = false, .crop = CropKind::kDvae, .crops_per_image = 3});
  std::set<int64_t> drawn;
  for (int64_t position = 0; position < 100; ++position) {
    const Sample sample = samples.at(position);
    int64_t matches = 0;
    for (int64_t crop = 0; crop < 3; ++crop)
      if (torch::equal(sample.image, samples.image(position % 20, crop))) {
        ++matches;
        drawn.insert(crop);
      }
    EXPECT_GE(matches, 1) << "position " << position;
  }
  EXPECT_EQ(drawn.size(), 3u);
}

TEST_F(SampleSourceTest, SamplesACaptionInEveryEpoch) {
  const SampleSource samples = source({.shuffle = false});
  std::map<std::string, int> counts;
  for (int64_t epoch = 0; epoch < 90; ++epoch) ++counts[samples.at(20 * epoch + 5).text];
  EXPECT_EQ(counts.size(), 3u);
  for (const auto& [caption, count] : counts) EXPECT_GT(count, 10) << caption;
}

TEST_F(SampleSourceTest, PadsTheTokensOfTheCaption) {
  const SampleSource samples = source();
  testing::internal::CaptureStderr();
  for (int64_t position = 0; position < 20; ++position) {
    const Sample sample = samples.at(position);
    EXPECT_EQ(sample.caption.scalar_type(), torch::kLong);
    EXPECT_TRUE(torch::equal(sample.caption, padded(tokenizer.encode(sample.text))));
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "no caption is truncated";
}

TEST_F(SampleSourceTest, SeedsBpeDropoutByPosition) {
  const SampleSource samples = source({.seed = 9, .bpe_dropout = 0.5});
  int changed = 0;
  for (int64_t position = 0; position < 20; ++position) {
    const Sample sample = samples.at(position);
    const uint64_t seed = derive_seed(9, SeedPurpose::kBpeDropout, static_cast<uint64_t>(position));
    EXPECT_TRUE(torch::equal(sample.caption,
                             padded(tokenizer.encode_with_dropout(sample.text, 0.5, seed))));
    changed += !torch::equal(sample.caption, padded(tokenizer.encode(sample.text)));
  }
  EXPECT_GE(changed, 10);
}

TEST_F(SampleSourceTest, DropsCaptionsByPosition) {
  const SampleSource plain = source({.seed = 9, .bpe_dropout = 0.3});
  const SampleSource half = source({.seed = 9, .bpe_dropout = 0.3, .caption_dropout = 0.5});
  const SampleSource most = source({.seed = 9, .bpe_dropout = 0.3, .caption_dropout = 0.8});
  int64_t dropped = 0;
  for (int64_t position = 199; position >= 0; --position) {
    Sample expected = plain.at(position);
    const uint64_t seed =
        derive_seed(9, SeedPurpose::kCaptionDropout, static_cast<uint64_t>(position));
    if (to_unit(seed) < 0.5) {
      expected.caption = padded({});
      ++dropped;
      EXPECT_TRUE(torch::equal(most.at(position).caption, expected.caption));
    }
    expect_equal(half.at(position), expected);  // the image and the text stay
  }
  EXPECT_NEAR(static_cast<double>(dropped), 100, 22);  // three standard deviations
}

TEST_F(SampleSourceTest, DropsEveryCaptionAtProbabilityOneButStillNeedsIt) {
  dataset.captions_of[4] = {};
  const SampleSource samples = source({.shuffle = false, .caption_dropout = 1.0});
  for (int64_t position = 0; position < 20; ++position)
    EXPECT_TRUE(torch::equal(samples.at(position).caption, padded({})));
  EXPECT_NE(index_of(samples.at(4)), 4);
  EXPECT_EQ(skipped_count(), 1);
}

TEST_F(SampleSourceTest, TruncatesLongCaptionsAndLogsSome) {
  dataset.captions_of[4] = {"4 zebras and 17 quick foxes jump over the lazy dogs"};
  const std::vector<int64_t> tokens = tokenizer.encode(dataset.captions_of[4][0]);
  ASSERT_GT(tokens.size(), 12u);
  const SampleSource samples = source({.shuffle = false, .caption_length = 12});
  testing::internal::CaptureStderr();
  const Sample sample = samples.at(4);
  EXPECT_TRUE(torch::equal(sample.caption, padded(tokens, 12)));
  EXPECT_EQ(sample.text, dataset.captions_of[4][0]);
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(log, '\n'), 1);
  testing::internal::CaptureStderr();
  for (int again = 0; again < 18; ++again) samples.at(4);
  log += testing::internal::GetCapturedStderr();
  const std::string warning = fmt::format(
      ": its caption has {} tokens; the model only uses the first 12 (captions truncated so far: ",
      tokens.size());
  EXPECT_THAT(log, AllOf(HasSubstr(dataset.key(4) + warning + "1)"), HasSubstr(warning + "10)")));
  EXPECT_EQ(std::ranges::count(log, '\n'), 2);
}

TEST_F(SampleSourceTest, MakesOnlyWhatTheStageNeeds) {
  const SampleSource images(dataset, nullptr, skipped,
                            {.with_caption = false, .image_size = kImageSize});
  dataset.captions_of[images.order().index(0)] = {};  // must not matter
  const Sample image = images.at(0);
  EXPECT_TRUE(image.image.defined());
  EXPECT_FALSE(image.caption.defined());
  EXPECT_EQ(image.text, "");

  dataset.captions_of.clear();
  dataset.images_read = 0;
  const Sample text = source({.with_image = false}).at(0);
  EXPECT_FALSE(text.image.defined());
  EXPECT_TRUE(text.caption.defined());
  EXPECT_EQ(dataset.images_read, 0);
  EXPECT_EQ(skipped_count(), 0);
}

TEST_F(SampleSourceTest, DecodesTheBytesOfAnImageFile) {
  dataset.bytes_of[6] = encode_image(noise_image(6), ImageFormat::kPng);
  const SampleSource samples = source({.shuffle = false});
  const Sample from_bytes = samples.at(6);
  dataset.bytes_of.clear();
  expect_equal(from_bytes, samples.at(6));
}

TEST_F(SampleSourceTest, RecordsAndReplacesInvalidSamples) {
  dataset.unreadable = {1};
  dataset.small = {2};
  dataset.bytes_of[3] = "no image";
  dataset.captions_of[4] = {};
  dataset.captions_of[5] = {"", " \t\n"};
  dataset.captions_of[6] = {"", "the second of 6"};
  dataset.captions_of[7] = {"caf\xe9 7"};  // not UTF-8
  const SampleSource samples = source({.shuffle = false});
  const std::set<int64_t> invalid = {1, 2, 3, 4, 5, 7};
  for (int64_t position = 0; position < 60; ++position) {
    const Sample sample = samples.at(position);
    EXPECT_EQ(sample.position, position);
    EXPECT_FALSE(invalid.contains(index_of(sample)));
    EXPECT_TRUE(invalid.contains(position % 20) || index_of(sample) == position % 20);
    expect_equal(sample, samples.at(position));
  }
  EXPECT_EQ(samples.at(6).text, "the second of 6");
  EXPECT_EQ(skipped_count(), 6);
  const std::string lines = read_file(folder / "skipped.jsonl");
  EXPECT_THAT(lines, HasSubstr(R"({"key":"noise/1","reason":"noise/1: truncated"})"));
  EXPECT_THAT(lines, HasSubstr(R"({"key":"noise/4","reason":"no caption"})"));
  EXPECT_THAT(lines, HasSubstr(R"({"key":"noise/5","reason":"no caption"})"));
}

TEST_F(SampleSourceTest, TreatsFileSystemErrorsAsInvalidSamples) {
  dataset.failing = {1};
  const SampleSource samples = source({.shuffle = false});
  EXPECT_NE(index_of(samples.at(1)), 1);
  EXPECT_FALSE(samples.image(1, 0).defined());
  EXPECT_EQ(skipped_count(), 1);
}

TEST_F(SampleSourceTest, ReplacesASampleByDifferentOnesAtDifferentPositions) {
  dataset.unreadable = {1};
  const SampleSource samples = source({.shuffle = false});
  std::set<int64_t> replacements;
  for (int64_t epoch = 0; epoch < 40; ++epoch)
    replacements.insert(index_of(samples.at(20 * epoch + 1)));
  EXPECT_GT(replacements.size(), 10u);
}

TEST_F(SampleSourceTest, FindsTheOnlyValidSample) {
  for (int64_t index = 0; index < 20; ++index)
    if (index != 13) dataset.unreadable.insert(index);
  const SampleSource samples = source();
  for (int64_t position = 0; position < 40; ++position)
    EXPECT_EQ(index_of(samples.at(position)), 13);
  EXPECT_EQ(skipped_count(), 19);
}

TEST_F(SampleSourceTest, FailsIfAllSamplesAreInvalid) {
  for (int64_t index = 0; index < 20; ++index) dataset.unreadable.insert(index);
  const SampleSource samples = source({.shuffle = false});
  try {
    samples.at(2);
    FAIL() << "expected an error";
  } catch (const NoUsableSample& error) {
    EXPECT_THAT(error.what(), HasSubstr("all 20 samples are invalid; the last one was noise/"));
    EXPECT_THAT(error.what(), HasSubstr(": truncated"));
  }
}

TEST_F(SampleSourceTest, FailsIfTooManySamplesAreInvalid) {
  dataset.unreadable = {0, 1, 2};
  SkippedSamples strict(folder / "strict.jsonl", 20, 0.1);
  const SampleSource samples(dataset, &tokenizer, strict,
                             {.shuffle = false, .image_size = kImageSize});
  for (int64_t position = 3; position < 20; ++position) EXPECT_NO_THROW(samples.at(position));
  EXPECT_THROW(for (int64_t position = 0; position < 3; ++position) samples.at(position), Error);
  EXPECT_EQ(skipped_count("strict.jsonl"), 3);
}

TEST_F(SampleSourceTest, PropagatesErrorsThatAreNotCausedByASample) {
  const SampleSourceOptions options{.shuffle = false, .crop = CropKind::kCenter};
  SampleSource samples = source(options);
  samples.use_codes([](int64_t, int64_t) -> at::Tensor { throw Error("the cache is corrupt"); });
  EXPECT_THROW(samples.at(0), Error);
  EXPECT_EQ(skipped_count(), 0);
  EXPECT_THROW(samples.at(-1), std::logic_error);
  EXPECT_THROW(source({.crop = CropKind::kDvae}).use_codes({}), std::logic_error);
  EXPECT_THROW(SampleSource(NoiseDataset(0), &tokenizer, skipped, {}), Error);
  EXPECT_THROW(SampleSource(dataset, nullptr, skipped, {}), std::logic_error);
}

// dalle.cache_codes promises the same training as without a cache, given the same crops.
TEST_F(SampleSourceTest, CachedCodesMatchTrainingWithoutACache) {
  dataset.unreadable = {3, 8};
  dataset.captions_of[5] = {};
  const SampleSourceOptions options{.crop = CropKind::kTransformer, .crops_per_image = 2};
  const SampleSource on_the_fly = source(options);
  SampleSource cached = source(options);

  // Replaces the dVAE: two sums of the image.
  const auto encode = [](const at::Tensor& images) {
    const at::Tensor sums = images.to(torch::kLong).sum({2, 3});
    return sums.slice(1, 0, 2).remainder(8192);
  };
  const CodeCacheContent content{.size = 20,
                                 .crops = 2,
                                 .image_size = kImageSize,
                                 .codes_per_image = 2,
                                 .vocab_size = 8192,
                                 .source = "sums"};
  compute_code_cache(folder / "codes", content,
                     [&](int64_t index, int64_t crop) { return cached.image(index, crop); }, encode,
                     {});
  EXPECT_EQ(skipped_count(), 2);
  const CodeCache cache(folder / "codes", content);
  cached.use_codes([&](int64_t index, int64_t crop) { return cache.lookup(index, crop); });

  dataset.images_read = 0;
  std::vector<Sample> found;
  for (int64_t position = 0; position < 60; ++position) found.push_back(cached.at(position));
  EXPECT_EQ(dataset.images_read, 0);
  for (const Sample& sample : found) {
    const Sample expected = on_the_fly.at(sample.position);
    EXPECT_EQ(sample.text, expected.text);
    EXPECT_TRUE(torch::equal(sample.caption, expected.caption));
    EXPECT_FALSE(sample.image.defined());
    EXPECT_TRUE(torch::equal(sample.codes, encode(expected.image.unsqueeze(0)).squeeze(0)));
  }
}

}  // namespace
}  // namespace dalle
