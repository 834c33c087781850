#include "checkpoint/checkpoint_writer.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "error_of.h"
#include "ranks.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int64_t kParts = 4;

/// A number's worth of state: part i holds the tensor of its name, filled with 10 * step + i.
CheckpointContent content_of(int64_t step, const std::vector<int64_t>& parts, bool is_rank_zero) {
  CheckpointContent content{.step = step, .tensors = {}, .files = {}};
  for (const int64_t part : parts)
    content.tensors["part" + std::to_string(part)] = {
        {"x", torch::full({1000}, static_cast<double>(10 * step + part))}};
  if (is_rank_zero) content.files["note.txt"] = "step " + std::to_string(step);
  return content;
}

std::vector<int64_t> parts_of_rank(const CheckpointWriter& writer) {
  std::vector<int64_t> parts;
  for (int64_t part = 0; part < kParts; ++part)
    if (writer.writes(part, kParts)) parts.push_back(part);
  return parts;
}

void begin_save(CheckpointWriter& writer, const ProcessGroup& group, int64_t step) {
  writer.begin(content_of(step, parts_of_rank(writer), group.is_rank_zero()), kParts, 0.5);
}

/// Every file of a checkpoint and its bytes.
std::map<std::string, std::string> files_of(const fs::path& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(checkpoint))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

TEST(CheckpointWriter, WritesTheSameBytesAsAPlainSaveOnAnyNumberOfRanks) {
  const TemporaryDirectory folder;
  CheckpointStore(folder / "plain", 2).save(content_of(7, {0, 1, 2, 3}, true), 0.5);
  const auto expected = files_of(folder / "plain" / "step-00000007");
  for (const int64_t world : {1, 2, 3, 4, 6}) {
    const fs::path shared = folder / std::to_string(world);
    on_ranks(world, [&](ProcessGroup& group) {
      CheckpointWriter writer(shared, 2, group);
      begin_save(writer, group, 7);
      writer.finish();
    });
    EXPECT_EQ(files_of(shared / "step-00000007"), expected) << world;
  }
}

TEST(CheckpointWriter, EachPartIsWrittenByOneRank) {
  const TemporaryDirectory folder;
  for (const int64_t world : {1, 2, 3, 4, 7}) {
    std::vector<std::vector<int64_t>> parts(static_cast<size_t>(world));
    on_ranks(world, [&](ProcessGroup& group) {
      const CheckpointWriter writer(folder / "run", 2, group);
      parts[static_cast<size_t>(group.rank())] = parts_of_rank(writer);
    });
    std::vector<int64_t> all;
    for (const auto& of_rank : parts) all.insert(all.end(), of_rank.begin(), of_rank.end());
    EXPECT_EQ(all, (std::vector<int64_t>{0, 1, 2, 3})) << world;
    for (const auto& of_rank : parts)
      EXPECT_LE(of_rank.size(), static_cast<size_t>((kParts + world - 1) / world)) << world;
  }
}

TEST(CheckpointWriter, SavesFollowOneAnother) {
  const TemporaryDirectory folder;
  on_ranks(2, [&](ProcessGroup& group) {
    CheckpointWriter writer(folder / "run", 100, group);
    for (int64_t step = 1; step <= 10; ++step) begin_save(writer, group, step);  // no waiting
  });
  for (int64_t step = 1; step <= 10; ++step) {
    const auto content = read_checkpoint(folder / "run" / fmt::format("step-{:08d}", step));
    EXPECT_EQ(content.tensors.at("part3")[0].second[0].item<double>(), 10 * step + 3);
  }
}

TEST(CheckpointWriter, TheErrorOfASaveComesUpOnceItIsKnown) {
  const TemporaryDirectory folder;
  ProcessGroup alone;
  CheckpointWriter writer(folder / "run", 2, alone);
  begin_save(writer, alone, 1);
  writer.finish();
  fs::remove_all(folder / "run");
  write_file_atomically(folder / "run", "in the way");
  begin_save(writer, alone, 2);
  std::string error = "no error";
  while (error == "no error") error = error_of([&] { writer.check(); });
  EXPECT_THAT(error, HasSubstr("cannot save the checkpoint of step 2"));
  EXPECT_EQ(error_of([&] { writer.check(); }), "no error");  // it is said once
}

TEST(CheckpointWriter, AnErrorOfOneRankIsToldToAllThatWriteAndLeavesNoCheckpoint) {
  const TemporaryDirectory folder;
  on_ranks(4, [&](ProcessGroup& group) {
    CheckpointWriter writer(folder / "run", 2, group);
    begin_save(writer, group, 1);
    writer.finish();
    CheckpointContent own = content_of(2, parts_of_rank(writer), group.is_rank_zero());
    if (group.rank() == 2) own.tensors["no/such/folder"] = {{"x", torch::zeros({1})}};
    writer.begin(std::move(own), kParts, 0.5);
    const std::string error = error_of([&] { writer.finish(); });
    EXPECT_THAT(error, HasSubstr("cannot save the checkpoint of step 2: rank 2: "));
    EXPECT_THAT(error, HasSubstr("no/such/folder.safetensors"));
  });
  EXPECT_EQ(checkpoints_in(folder / "run"),
            std::vector<fs::path>{folder / "run" / "step-00000001"});
}

TEST(CheckpointWriter, SaysThatTheFolderMustBeShared) {
  const TemporaryDirectory folder;
  on_ranks(2, [&](ProcessGroup& group) {
    const fs::path own = folder / std::to_string(group.rank()) / "run";
    fs::create_directories(own / "step-00000001.part");
    CheckpointWriter writer(own, 2, group);
    fs::create_directories(own / "step-00000001.part");  // as if another node's
    begin_save(writer, group, 1);
    EXPECT_THAT(error_of([&] { writer.finish(); }),
                HasSubstr("the run folder must be on a file system that all ranks share"));
  });
}

}  // namespace
}  // namespace dalle
