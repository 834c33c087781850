#include "train/chunked_work.h"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "error_of.h"
#include "ranks.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

/// Ten items in four chunks.
const ChunkedPhase kPhase{
    .what = "test: items", .folder = "test/items", .items = 10, .chunk_size = 3};

ordered_json range_of(const Chunk& chunk) {
  return {{"begin", chunk.begin}, {"end", chunk.end}};
}

const std::vector<ordered_json> kAll = {{{"begin", 0}, {"end", 3}},
                                        {{"begin", 3}, {"end", 6}},
                                        {{"begin", 6}, {"end", 9}},
                                        {{"begin", 9}, {"end", 10}}};

class ChunkedWorkTest : public testing::Test {
 protected:
  ChunkStore store(const ordered_json& identity = "model 1") const {
    return {folder_ / "work.partial", identity};
  }

  const TemporaryDirectory folder_;
};

TEST_F(ChunkedWorkTest, EveryRankGetsTheRecordsOfAllChunksInOrder) {
  for (const int64_t ranks : {1, 2, 3, 5}) {
    std::atomic<int> found = 0;
    on_ranks(ranks, [&](ProcessGroup& group) {
      ChunkedWork work(group);
      EXPECT_EQ(work.records(kPhase,
                             [&](const Chunk& chunk) {
                               ++found;
                               return range_of(chunk);
                             }),
                kAll);
    });
    EXPECT_EQ(found, 4) << "no chunk is computed twice, on " << ranks << " ranks";
  }
}

TEST_F(ChunkedWorkTest, AChunkHasOneThreadAndSeveralAreComputedAtOnce) {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  {
    ProcessGroup alone;
    ChunkedWork work(alone);
    EXPECT_EQ(work.threads(), 3);
    EXPECT_EQ(at::get_num_threads(), 1);
    std::atomic<int> waiting = 0;
    ChunkedPhase phase = kPhase;
    phase.chunk_size = 4;  // three chunks
    work.records(phase, [&](const Chunk&) -> ordered_json {
      EXPECT_EQ(at::get_num_threads(), 1);
      ++waiting;
      while (waiting < 3) std::this_thread::yield();  // all three must be here
      return nullptr;
    });
    phase.threads = ChunkThreads::kAllTogether;
    work.records(phase, [&](const Chunk&) -> ordered_json {
      EXPECT_EQ(at::get_num_threads(), 3);
      return nullptr;
    });
  }
  EXPECT_EQ(at::get_num_threads(), 3);
  at::set_num_threads(before);
}

TEST_F(ChunkedWorkTest, StoppedWorkContinuesOnAnyNumberOfRanks) {
  std::atomic<int> found = 0;
  const auto stop_at_third = [&] {
    if (found == 2) throw StopRequested();
  };
  {
    ProcessGroup alone;
    at::set_num_threads(1);
    ChunkedWork work(alone, stop_at_third, c10::kCPU, store());
    EXPECT_THROW(work.records(kPhase,
                              [&](const Chunk& chunk) {
                                ++found;
                                return range_of(chunk);
                              }),
                 StopRequested);
  }
  EXPECT_EQ(found, 2);
  store();  // as the next process opens it
  on_ranks(2, [&](ProcessGroup& group) {
    ChunkedWork work(
        group, [] {}, c10::kCPU, ChunkStore::reopened(folder_ / "work.partial"));
    EXPECT_EQ(work.records(kPhase,
                           [&](const Chunk& chunk) {
                             ++found;
                             return range_of(chunk);
                           }),
              kAll);
  });
  EXPECT_EQ(found, 4) << "two were stored";
}

TEST_F(ChunkedWorkTest, AStopOnOneRankStopsAllAndKeepsTheWorkOfEach) {
  on_ranks(2, [&](ProcessGroup& group) {
    const bool stops = group.rank() == 1;
    std::atomic<int> found = 0;
    ChunkedWork work(
        group,
        [&] {
          if (stops && found == 1) throw StopRequested();
        },
        c10::kCPU, stops ? ChunkStore::reopened(folder_ / "work.partial") : store());
    at::set_num_threads(1);
    EXPECT_THROW(work.records(kPhase,
                              [&](const Chunk& chunk) {
                                ++found;
                                return range_of(chunk);
                              }),
                 StopRequested);
  });
  EXPECT_GE(store().read(kPhase.folder).size(), 3U) << "two of rank 0, and at least one of rank 1";
}

TEST_F(ChunkedWorkTest, AFailureOnOneRankIsThatOfAll) {
  on_ranks(2, [&](ProcessGroup& group) {
    ChunkedWork work(group);
    const std::string error = error_of([&] {
      work.records(kPhase, [&](const Chunk& chunk) -> ordered_json {
        if (chunk.begin == 3) throw Error("the logits are not finite");
        return nullptr;
      });
    });
    EXPECT_THAT(error, testing::HasSubstr("the logits are not finite"));
  });
}

TEST_F(ChunkedWorkTest, RecordsOfAnotherIdentityAreRemoved) {
  store().write("test/items", {{0, "found"}});
  EXPECT_EQ(store().read("test/items"), (ChunkRecords{{0, "found"}}));
  EXPECT_TRUE(store("model 2").read("test/items").empty());
  EXPECT_TRUE(store().read("test/items").empty());
}

TEST_F(ChunkedWorkTest, CorruptRecordsAreComputedAgain) {
  store().write("test/items", {{0, "first"}, {1, "second"}});
  store().write("test/items", {{2, "third"}});
  for (const auto& entry : fs::directory_iterator(folder_ / "work.partial/test/items"))
    if (entry.path().filename() == "000002.cbor") std::ofstream(entry.path(), std::ios::app) << "x";
  EXPECT_EQ(store().read("test/items"), (ChunkRecords{{0, "first"}, {1, "second"}}));
}

TEST_F(ChunkedWorkTest, APartCanBeRemoved) {
  store().write("codes/images", {{0, 1}});
  store().write("shapes/images", {{0, 2}});
  EXPECT_EQ(store().parts(), (std::set<std::string>{"codes", "shapes"}));
  store().remove("codes");
  EXPECT_TRUE(store().read("codes/images").empty());
  EXPECT_FALSE(store().read("shapes/images").empty());
  store().remove();
  EXPECT_FALSE(fs::exists(folder_ / "work.partial"));
}

TEST(ChunkRecordsTest, KeepAllBits) {
  for (const at::Tensor& tensor :
       {torch::rand({2, 3}, at::kDouble), torch::rand({4}), torch::tensor({-1, 1 << 30}, at::kInt),
        torch::zeros({0, 5}, at::kByte)}) {
    const ChunkRecords records = {{7, {{"tensor", tensor_record(tensor)}, {"number", 0.1}}}};
    const ChunkRecords found = chunk_records(to_bytes(records));
    const at::Tensor read = recorded_tensor(found.at(7).at("tensor"));
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(read.equal(tensor));
    EXPECT_EQ(found.at(7).at("number").get<double>(), 0.1);
  }
}

}  // namespace
}  // namespace dalle
