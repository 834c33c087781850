#include "data/code_cache.h"

#include <atomic>
#include <barrier>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/files.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

CodeCacheContent content() {
  return {.size = 7,
          .crops = 3,
          .image_size = 2,
          .codes_per_image = 4,
          .vocab_size = 65'535,
          .source = "hash of dVAE, data and crops"};
}

bool is_bad(int64_t index) {
  return index == 0 || index == 4;
}

/// An image that encodes its sample and crop; undefined for invalid samples.
at::Tensor image(int64_t index, int64_t crop) {
  if (is_bad(index)) return {};
  at::Tensor image = torch::zeros({3, 2, 2}, torch::kByte);
  image[0].fill_(index);
  image[1].fill_(crop);
  return image;
}

/// Codes that identify what they were computed from, 1000 index + 100 crop + cell: [B, 2, 2].
at::Tensor encode(const at::Tensor& images) {
  const at::Tensor values = images.to(torch::kInt);
  return 1000 * values.select(1, 0) + 100 * values.select(1, 1) +
         torch::arange(4, torch::kInt).view({2, 2});
}

void expect_complete(const std::filesystem::path& path) {
  const CodeCache cache(path, content());
  for (int64_t index = 0; index < 7; ++index)
    for (int64_t crop = 0; crop < 3; ++crop) {
      const at::Tensor codes = cache.lookup(index, crop);
      ASSERT_EQ(codes.defined(), !is_bad(index)) << index;
      if (!codes.defined()) continue;
      EXPECT_EQ(codes.scalar_type(), torch::kLong);
      EXPECT_TRUE(torch::equal(codes, 1000 * index + 100 * crop + torch::arange(4)))
          << index << " " << crop;
    }
}

/// Computes until `stop_after` rows are done.
bool compute(const std::filesystem::path& path, int64_t stop_after = 1000,
             const CachedImage& make_image = image) {
  return compute_code_cache(path, content(), make_image, encode,
                            {.batch_size = 2,
                             .workers = 2,
                             .prefetch = 2,
                             .rows_per_flush = 4,
                             .progress = [&](int64_t done, int64_t total) {
                               EXPECT_EQ(total, 21);
                               return done < stop_after;
                             }});
}

template <class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string message_of_opening(const std::filesystem::path& path,
                               const CodeCacheContent& expected = content()) {
  return message_of([&] { CodeCache(path, expected); });
}

void change_byte(const std::filesystem::path& path, int64_t offset, char byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file.put(byte);
}

TEST(CodeCacheTest, HoldsTheCodesOfEveryCropOfEverySample) {
  const TemporaryDirectory folder;
  EXPECT_TRUE(compute(folder / "codes"));
  expect_complete(folder / "codes");
  EXPECT_EQ(std::filesystem::file_size(folder / "codes"), 4096u + 7 * 3 * (4 * 2 + 4));
}

TEST(CodeCacheTest, DistinguishesTheHighestCodeFromInvalidSamples) {
  const TemporaryDirectory folder;
  CodeCacheContent one = content();
  one.size = one.crops = 1;
  const auto highest = [](const at::Tensor&) { return torch::full({1, 4}, 65'534, torch::kLong); };
  compute_code_cache(folder / "codes", one,
                     [](int64_t, int64_t) {
                       return torch::zeros({3, 2, 2}, torch::kByte);
                     },
                     highest, {});
  const at::Tensor codes = CodeCache(folder / "codes", one).lookup(0, 0);
  ASSERT_TRUE(codes.defined());
  EXPECT_TRUE(torch::equal(codes, torch::full({4}, 65'534)));
}

TEST(CodeCacheTest, IsNotComputedTwice) {
  const TemporaryDirectory folder;
  compute(folder / "codes");
  EXPECT_TRUE(compute(folder / "codes", 1000, [](int64_t, int64_t) -> at::Tensor {
    ADD_FAILURE() << "asked for an image";
    return {};
  }));
  expect_complete(folder / "codes");
}

TEST(CodeCacheTest, ResumesWhereItWasStopped) {
  for (int64_t stop_after = 1; stop_after < 21; stop_after += 3) {
    const TemporaryDirectory folder;
    EXPECT_FALSE(compute(folder / "codes", stop_after));
    EXPECT_THAT(message_of_opening(folder / "codes"), HasSubstr("computation was interrupted"));
    const int64_t done = (stop_after + 1) / 2 * 2;  // whole batches of two
    std::atomic<int64_t> first = 1000;
    EXPECT_TRUE(compute(folder / "codes", 1000, [&](int64_t index, int64_t crop) {
      for (int64_t row = index * 3 + crop, seen = first; row < seen;)
        if (first.compare_exchange_weak(seen, row)) break;
      return image(index, crop);
    }));
    EXPECT_EQ(first, done);
    expect_complete(folder / "codes");
  }
}

/// Computes as several ranks do, on threads, until rank r has called its progress `calls[r]` times.
/// @return  what compute_code_cache() returns on all ranks
bool compute_on_ranks(const std::filesystem::path& path, const std::vector<int>& calls,
                      std::vector<int>* images = nullptr) {
  const auto ranks = static_cast<int64_t>(calls.size());
  std::barrier all_there(ranks);
  std::vector<at::Tensor> parts(calls.size());
  std::vector<int> made(calls.size());
  std::atomic<int> complete = 0;
  const auto compute_on = [&](size_t rank) {
    std::atomic<int> own_images = 0;
    int calls_left = calls[rank];
    complete += compute_code_cache(path, content(),
                                   [&](int64_t index, int64_t crop) {
                                     ++own_images;
                                     return image(index, crop);
                                   },
                                   encode,
                                   {.batch_size = 2,
                                    .rows_per_flush = 4,
                                    .progress =
                                        [&](int64_t done, int64_t total) {
                                          EXPECT_LE(done, total);
                                          return --calls_left > 0;
                                        },
                                    .rank = static_cast<int64_t>(rank),
                                    .ranks = ranks,
                                    .gather =
                                        [&](const at::Tensor& own) {
                                          parts[rank] = own;
                                          all_there.arrive_and_wait();
                                          const at::Tensor all = at::stack(parts);
                                          all_there.arrive_and_wait();
                                          return all;
                                        }});
    made[rank] = own_images;
  };
  {
    std::vector<std::jthread> threads;
    for (size_t rank = 0; rank < calls.size(); ++rank) threads.emplace_back(compute_on, rank);
  }
  if (images != nullptr) *images = made;
  EXPECT_TRUE(complete == 0 || complete == ranks);
  return complete == ranks;
}

TEST(CodeCacheTest, IsTheSameForAnyNumberOfRanks) {
  const TemporaryDirectory folder;
  compute(folder / "one");
  for (const size_t ranks : {2, 3, 8, 16}) {
    const auto path = folder / fmt::format("{}", ranks);
    EXPECT_TRUE(compute_on_ranks(path, std::vector(ranks, 1000)));
    EXPECT_EQ(read_file(path), read_file(folder / "one")) << ranks;
  }
}

TEST(CodeCacheTest, IsDividedEvenlyAmongRanks) {
  const TemporaryDirectory folder;
  std::vector<int> images;
  compute_on_ranks(folder / "codes", {1000, 1000, 1000}, &images);
  EXPECT_THAT(images, testing::ElementsAre(8, 7, 6));  // 11 batches of 2 images, the last of 1
}

TEST(CodeCacheTest, KeepsEverythingWhenARankStops) {
  struct Case {
    std::vector<int> calls;
    int rows_kept;  ///< six for each call of the rank that stops
  };
  for (const Case& stopped : {Case{{1000, 1, 1000}, 6}, Case{{1, 1000, 1000}, 6},
                              Case{{1000, 1000, 2}, 12}, Case{{3, 3, 3}, 18}}) {
    const TemporaryDirectory folder;
    EXPECT_FALSE(compute_on_ranks(folder / "codes", stopped.calls));
    EXPECT_THAT(message_of_opening(folder / "codes"),
                HasSubstr(fmt::format("found {} rows of codes", stopped.rows_kept)));
    EXPECT_TRUE(compute_on_ranks(folder / "codes", {1000, 1000}));
    expect_complete(folder / "codes");
  }
}

// A killed process keeps the rows of its last flush; rows written after it are ignored.
TEST(CodeCacheTest, ResumesFromTheLastFlushAfterACrash) {
  const TemporaryDirectory folder;
  const auto crash_at_ten = [](int64_t index, int64_t crop) {
    if (index * 3 + crop == 10) throw std::runtime_error("power cut");
    return image(index, crop);
  };
  EXPECT_THROW(compute(folder / "codes", 1000, crash_at_ten), std::runtime_error);
  change_byte(folder / "codes", 4096 + 8 * 12, 'x');  // garbage in the first incomplete row
  EXPECT_THAT(message_of_opening(folder / "codes"),
              HasSubstr("found 8 rows of codes, expected 21"));
  EXPECT_TRUE(compute(folder / "codes"));
  expect_complete(folder / "codes");
}

TEST(CodeCacheTest, IsRecomputedForOtherContent) {
  const TemporaryDirectory folder;
  CodeCacheContent other = content();
  other.source = "another dVAE";
  compute_code_cache(folder / "codes", other, image,
                     [](const at::Tensor& images) {
                       return torch::zeros({images.size(0), 4}, torch::kLong);
                     },
                     {});
  EXPECT_THAT(message_of_opening(folder / "codes"),
              AllOf(HasSubstr((folder / "codes").string()), HasSubstr("another dVAE"),
                    HasSubstr("hash of dVAE, data and crops")));
  EXPECT_TRUE(compute(folder / "codes"));
  expect_complete(folder / "codes");
}

TEST(CodeCacheTest, EveryPartOfTheContentMatters) {
  const TemporaryDirectory folder;
  compute(folder / "codes");
  std::vector<CodeCacheContent> others(6, content());
  others[0].size = 8;
  others[1].crops = 2;
  others[2].image_size = 4;
  others[3].codes_per_image = 5;
  others[4].vocab_size = 512;
  others[5].source = "";
  for (const CodeCacheContent& other : others)
    EXPECT_THAT(message_of_opening(folder / "codes", other), HasSubstr("found codes of {"));
}

TEST(CodeCacheTest, RejectsATruncatedFile) {
  const TemporaryDirectory folder;
  for (const int64_t bytes : {4096 + 251, 4096 + 12, 4096}) {
    compute(folder / "codes");
    std::filesystem::resize_file(folder / "codes", static_cast<uintmax_t>(bytes));
    EXPECT_THAT(message_of_opening(folder / "codes"),
                HasSubstr(fmt::format("found {} bytes, expected 4348", bytes)));
    EXPECT_TRUE(compute(folder / "codes")) << "recomputes them";
    expect_complete(folder / "codes");
  }
}

TEST(CodeCacheTest, RejectsAnImpossibleRowCount) {
  const TemporaryDirectory folder;
  compute(folder / "codes");
  change_byte(folder / "codes", 4095, '\x80');  // negative
  EXPECT_THAT(message_of_opening(folder / "codes"), HasSubstr("rows of codes, expected 21"));
  EXPECT_TRUE(compute(folder / "codes"));
  expect_complete(folder / "codes");
}

TEST(CodeCacheTest, DetectsAnyFlippedBitInARow) {
  const TemporaryDirectory folder;
  compute(folder / "codes");
  const std::string intact = read_file(folder / "codes");
  constexpr int64_t kRow = 3, kRowBytes = 12;  // crop 0 of sample 1
  for (int64_t byte = 0; byte < kRowBytes; ++byte)
    for (const char bit : {'\x01', '\x80'}) {
      std::string flipped = intact;
      flipped[4096 + kRow * kRowBytes + byte] ^= bit;
      write_file_atomically(folder / "codes", flipped);
      const CodeCache cache(folder / "codes", content());
      EXPECT_THAT(message_of([&] { cache.lookup(1, 0); }),
                  HasSubstr("the codes of crop 0 of sample 1 do not match their checksum"));
      EXPECT_TRUE(cache.lookup(1, 1).defined());
    }
}

TEST(CodeCacheTest, RecomputesAFileOfAnEarlierVersionAndLogsIt) {
  const TemporaryDirectory folder;
  compute(folder / "codes");
  std::string former = read_file(folder / "codes");
  former.replace(former.find("\"version\":2"), 11, "\"version\":1");
  write_file_atomically(folder / "codes", former);
  testing::internal::CaptureStderr();
  EXPECT_TRUE(compute(folder / "codes"));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("was written by an earlier version, without checksums; recomputing it"));
  expect_complete(folder / "codes");
}

TEST(CodeCacheTest, LeavesOtherFilesAlone) {
  const TemporaryDirectory folder;
  const std::string text(5000, 'x');
  for (const std::string& content_of_file :
       {std::string(), std::string("short"), text, std::string("{\"format\": 1}\n") + text}) {
    write_file_atomically(folder / "file", content_of_file);
    const auto expected = HasSubstr("not a code cache");
    EXPECT_THAT(message_of_opening(folder / "file"), expected);
    EXPECT_THAT(message_of([&] { compute(folder / "file"); }), expected);
    EXPECT_EQ(read_file(folder / "file"), content_of_file);
  }
  EXPECT_THAT(message_of([&] { compute(folder.path()); }),
              HasSubstr("found a directory, expected a code cache"));
  EXPECT_THAT(message_of_opening(folder / "none"), HasSubstr("none: cannot open: No such file"));
  EXPECT_THAT(message_of([&] { compute(folder / "no" / "folder"); }), HasSubstr("cannot write"));
}

TEST(CodeCacheTest, RejectsCodesThatItCannotStore) {
  const TemporaryDirectory folder;
  const auto message_for = [&](const at::Tensor& codes) {
    return message_of([&] {
      compute_code_cache(folder / "codes", content(), image,
                         [&](const at::Tensor&) { return codes; }, {.batch_size = 2});
    });
  };
  EXPECT_THAT(message_for(torch::full({2, 4}, 65'535)),
              HasSubstr("codes: found values from 65535 to 65535, expected values in [0, 65535)"));
  EXPECT_THAT(message_for(torch::full({2, 4}, -1)), HasSubstr("found values from -1 to -1"));
  EXPECT_THAT(message_for(torch::zeros({2, 5}, torch::kLong)),
              HasSubstr("the encoder returned 10 codes for 2 images, expected 4 per image"));
}

}  // namespace
}  // namespace dalle
