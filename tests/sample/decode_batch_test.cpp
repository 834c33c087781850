#include "sample/decode_batch.h"

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "counted_new.h"
#include "sample/caption_images.h"
#include "sample/generate_codes.h"
#include "sample/small_dalle.h"

namespace dalle::decode_batch_test {  // test sources are joined, and others use the same names
namespace {

constexpr int64_t kLength = 9;  // of an image of small_model()

struct Image {
  CaptionImages images;
  uint64_t seed = 1;
  SamplingConfig sampling = {};
};

/// With any caption, seed, sampling settings and forced codes.
Image random_image(std::mt19937& random) {
  const std::vector<SamplingConfig> samplings = {
      {},
      {.temperature = 0},
      {.temperature = 0.6, .top_k = 4},
      {.top_p = 0.7},
      {.guidance = 2.5},
      {.top_k = 8, .guidance = 0.5, .guidance_to = 0.6},
      {.guidance = 3, .guidance_from = 0.3, .guidance_to = 0.8}};
  Image image{.images = {.caption = caption(static_cast<int64_t>(3 + random() % 3)),
                         .first_image = static_cast<int64_t>(random() % 5)},
              .seed = random() % 3,
              .sampling = samplings[random() % samplings.size()]};
  if (random() % 3 != 0) return image;
  image.images.forced = torch::full({kLength}, kFreeCode, at::kLong);
  for (int64_t p = 0; p < kLength; ++p)
    if (random() % 2 == 0) image.images.forced[p] = static_cast<int64_t>(random() % 20);
  image.images.variation = random() % 2 == 0 ? 0 : 0.4;
  return image;
}

/// By generate_codes() alone.
at::Tensor alone(const DalleModel& model, const Image& image) {
  return generate_codes(model, image.images, image.sampling, {.seed = image.seed})[0];
}

std::vector<int64_t> to_vector(const at::Tensor& codes) {
  const at::Tensor flat = codes.flatten();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

void expect_a_part_of(const std::vector<int64_t>& codes, const at::Tensor& all) {
  const std::vector<int64_t> expected = to_vector(all);
  for (size_t p = 0; p < codes.size(); ++p)
    EXPECT_TRUE(codes[p] == kFreeCode || codes[p] == expected[p]) << "position " << p;
}

/// Images join and leave a batch between its passes, at random.
void check_random_schedule(const DalleModel& model, const BatchOptions& options,
                           std::mt19937& random) {
  DecodeBatch batch(model, options);
  std::map<int64_t, at::Tensor> expected;  // codes, by the number of an image in progress
  int64_t started = 0, completed = 0, canceled = 0;
  while (started < 25 || !batch.is_empty()) {
    while (started < 25 && !batch.is_full() && (batch.is_empty() || random() % 3 != 0)) {
      const Image image = random_image(random);
      const int64_t id = batch.start(image.images, image.seed, image.sampling);
      EXPECT_TRUE(expected.emplace(id, alone(model, image)).second) << "in use: " << id;
      ++started;
    }
    EXPECT_EQ(batch.is_full(), static_cast<int64_t>(expected.size()) == options.images);
    batch.pass([&](int64_t id, const at::Tensor& codes) {
      ++completed;
      EXPECT_TRUE(torch::equal(codes, expected.extract(id).mapped()));
    });
    for (const auto& [id, all] : expected) {
      const std::vector<int64_t> codes = batch.codes(id);
      expect_a_part_of(codes, all);
      EXPECT_EQ(batch.unknown_codes(id), std::ranges::count(codes, kFreeCode));
    }
    if (expected.empty() || random() % 8 != 0) continue;
    batch.cancel(expected.begin()->first);
    expected.erase(expected.begin());
    ++canceled;
  }
  EXPECT_EQ(completed + canceled, 25);
  EXPECT_GT(completed, 0);
}

TEST(DecodeBatch, GivesTheSameImagesHoweverOthersJoinAndLeave) {
  std::mt19937 random(7);
  const int threads = at::get_num_threads();
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    const DalleModel model = small_model({.width = 32, .precision = precision});
    for (const int set : {1, 2}) {
      at::set_num_threads(set);
      for (const auto& [mode, name] : enum_names(DecodeMode{}))
        for (const int64_t images : {1, 2, 5, 30}) {
          SCOPED_TRACE(fmt::format("{}, {} images, {} threads", name, images, set));
          check_random_schedule(model, {.images = images, .decode = {mode, 4, /*cached_bytes=*/0}},
                                random);
        }
    }
    at::set_num_threads(threads);
  }
}

TEST(DecodeBatch, ReadsACaptionOnceForAllOfItsImages) {
  const DalleModel model = small_model();
  DecodeBatch batch(model, {.images = 3});
  const Image image{.images = {.caption = caption()}};
  const at::Tensor expected = alone(model, image);
  {
    const torch::NoGradGuard no_grad;  // the decoder shares the embeddings
    batch.start(image.images, image.seed, image.sampling);
    model->named_parameters()["text_embedding"].fill_(std::numeric_limits<float>::quiet_NaN());
  }
  // Another tensor of the same tokens, while the first image is in progress and after it.
  for (int i = 0; i < 2; ++i) {
    const int64_t id = batch.start({.caption = caption()}, image.seed, image.sampling);
    at::Tensor found;
    while (!found.defined())
      batch.pass([&](int64_t of, const at::Tensor& codes) {
        EXPECT_TRUE(codes.defined());
        if (of == id) found = codes;
      });
    EXPECT_TRUE(torch::equal(found, expected));
  }
}

TEST(DecodeBatch, ReportsImagesWithoutFiniteLogitsAndCompletesTheOthers) {
  constexpr int64_t kCorrupt = 5;  // the code whose embedding is not finite
  const DalleModel model = small_model(), corrupt = small_model();
  {
    const torch::NoGradGuard no_grad;
    corrupt->named_parameters()["image_embedding"][kCorrupt].fill_(
        std::numeric_limits<float>::infinity());
  }
  for (const auto& [mode, name] : enum_names(DecodeMode{})) {
    // Few slots, so that images come after failed ones in the same slot.
    DecodeBatch batch(corrupt, {.images = 2, .decode = {mode, 4, /*cached_bytes=*/0}});
    std::vector<Image> in_progress(2);
    int64_t started = 0, failed = 0, completed = 0;
    while (started < 60 || !batch.is_empty()) {
      while (started < 60 && !batch.is_full()) {
        const Image image{.images = {.caption = caption(), .first_image = started++},
                          .sampling = {.guidance = started % 2 == 0 ? 2.0 : 1.0}};
        in_progress[static_cast<size_t>(batch.start(image.images, image.seed, image.sampling))] =
            image;
      }
      batch.pass([&](int64_t id, const at::Tensor& codes) {
        const at::Tensor expected = alone(model, in_progress[static_cast<size_t>(id)]);
        // No row reads the last code.
        const bool is_corrupt =
            expected.flatten().slice(0, 0, kLength - 1).eq(kCorrupt).any().item<bool>();
        ++(is_corrupt ? failed : completed);
        EXPECT_EQ(codes.defined(), !is_corrupt);
        EXPECT_TRUE(!codes.defined() || torch::equal(codes, expected));
      });
    }
    EXPECT_GT(failed, 0) << name;
    EXPECT_GT(completed, 0) << name;
  }
}

TEST(DecodeBatch, APassThatCompletesNoImageAllocatesNothing) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  for (const auto& [mode, name] : enum_names(DecodeMode{})) {
    DecodeBatch batch(small_model(), {.images = 3, .decode = {mode, 2, /*cached_bytes=*/0}});
    batch.start({.caption = caption()}, 1, {.guidance = 2});
    batch.start({.caption = caption(4)}, 2, {.top_p = 0.7});
    batch.start({.caption = caption(4)}, 3, {.top_k = 5});
    int64_t completed = 0;
    const BatchDone done = [&](int64_t, const at::Tensor&) { ++completed; };
    batch.pass(done);  // of the first use of the slots, and of the samplers' memory
    batch.pass(done);
    const int64_t before = allocations;
    batch.pass(done);
    batch.pass(done);
    EXPECT_EQ(allocations - before, 0) << name;
    EXPECT_EQ(completed, 0);
  }
  at::set_num_threads(threads);
}

TEST(DecodeBatch, HasNoRoomForMoreThanItsImages) {
  DecodeBatch batch(small_model(), {.images = 2, .sequences = 1});
  const CaptionImages image{.caption = caption()};
  EXPECT_THROW(batch.start(image, 1, {.guidance = 2}), std::logic_error);
  EXPECT_EQ(batch.start(image, 1, {}), 0);
  EXPECT_EQ(batch.start(image, 1, {}), 1);
  EXPECT_THROW(batch.start(image, 1, {}), std::logic_error);
  batch.cancel(0);
  EXPECT_THROW(batch.cancel(0), std::logic_error);
  EXPECT_THROW(batch.codes(0), std::logic_error);
  EXPECT_EQ(batch.start(image, 1, {}), 0);
  batch.cancel(0);
  batch.cancel(1);
  EXPECT_TRUE(batch.is_empty());
}

TEST(PreviewCodes, ContinueWhatIsKnownDownward) {
  const std::vector<int64_t> codes = {7,  8,  -1,  //
                                      3,  -1, 4,   //
                                      -1, 5,  -1};
  EXPECT_EQ(to_vector(preview_codes(codes, kLayout)), (std::vector<int64_t>{7, 8, 8,  //
                                                                            3, 8, 4,  //
                                                                            3, 5, 4}));
  std::vector<int64_t> one(9, kFreeCode);
  one[0] = 6;
  EXPECT_EQ(to_vector(preview_codes(one, kLayout)), std::vector<int64_t>(9, 6));
  EXPECT_THROW(preview_codes(std::vector<int64_t>(9, kFreeCode), kLayout), std::logic_error);
  EXPECT_EQ(preview_codes(codes, kLayout).sizes(), at::IntArrayRef({3, 3}));
}

}  // namespace
}  // namespace dalle::decode_batch_test
