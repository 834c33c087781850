// dvae.checkpoint: a config that takes a trained dVAE.

#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "core/config/config_io.h"
#include "core/files.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config_problems.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

/// A checkpoint of a dVAE with three groups of 8 channels, trained for 7 steps.
std::filesystem::path write_dvae(const std::filesystem::path& folder, int64_t step = 7,
                                 double score = 1) {
  ExperimentConfig config;
  config.dvae.model = {.groups = 3, .hidden = 8, .codebook_init_std = 1.0};
  config.dvae.train.steps = 7;
  CheckpointStore store(folder, /*keep_last=*/2);
  store.save({.step = step,
              .tensors = {{"ema", {{"w", torch::full({1}, static_cast<float>(step))}}}},
              .files = {{"config.yaml", dump_config(config)}}},
             score);
  return folder / fmt::format("step-0000000{}", step);
}

TEST(TrainedDvaeConfig, TakesTheShapeAndTheHashOfATrainedDvae) {
  const TemporaryDirectory folder;
  const std::filesystem::path checkpoint = write_dvae(folder.path());
  const std::string key = fmt::format("dvae: {{checkpoint: {}, model: {{hidden: 256, groups: 4}}}}",
                                      folder.path().string());
  const std::vector<std::string> given = {"data.kind=shapes", "dvae.model.hidden=8"};
  const ExperimentConfig config = load_experiment_text(key, "x.yaml", given);
  EXPECT_EQ(config.dvae.model.groups, 3);
  EXPECT_EQ(config.dvae.model.codebook_init_std, 1.0);
  EXPECT_EQ(config.layout().grid_width, 64);
  EXPECT_EQ(config.dvae.checkpoint, checkpoint.string());
  EXPECT_EQ(config.dvae.checkpoint_sha256, sha256_of_file(checkpoint / "ema.safetensors"));
  EXPECT_EQ(load_experiment_text(dump_config(config), "x.yaml"), config);
  // A run that has a copy resumes with what its config records.
  std::filesystem::remove_all(checkpoint);
  EXPECT_EQ(load_experiment_text(dump_config(config), "x.yaml"), config);
}

TEST(TrainedDvaeConfig, TakesTheBestDvaeOfAFinishedTrainingThatIsValid) {
  const TemporaryDirectory folder;
  const auto taken = [](const std::filesystem::path& path, const std::string& which) {
    const std::vector<std::string> overrides = {"dvae.checkpoint=" + path.string(),
                                                "dalle.dvae_checkpoint=" + which};
    return std::filesystem::path(
        load_experiment_text("data: {kind: shapes}", "x.yaml", overrides).dvae.checkpoint);
  };
  const std::filesystem::path best = write_dvae(folder.path(), 6, /*score=*/1);
  EXPECT_THAT(problems_of("data: {kind: shapes}", {"dvae.checkpoint=" + folder.path().string()}),
              ElementsAre(HasSubstr("the dVAE is at step 6 of 7")));
  EXPECT_EQ(taken(best, "last"), best);
  const std::filesystem::path last = write_dvae(folder.path(), 7, /*score=*/2);
  EXPECT_EQ(taken(folder.path(), "best"), best);
  EXPECT_EQ(taken(folder / "best", "last"), best);
  EXPECT_EQ(taken(folder.path(), "last"), last);
  write_file_atomically(best / "ema.safetensors", "corrupt");
  EXPECT_EQ(taken(folder.path(), "best"), last);
  EXPECT_THAT(problems_of("data: {kind: shapes}", {"dvae.checkpoint=" + best.string()}),
              ElementsAre(HasSubstr("ema.safetensors: truncated")));
}

TEST(TrainedDvaeConfig, IgnoresConflictsOfADvaeThatIsNotTrained) {
  ExperimentConfig config;
  config.data.kind = DatasetKind::kShapes;
  config.distributed.shard_optimizer = true;
  config.dvae.train.optimizer = OptimizerKind::kMuon;
  EXPECT_EQ(validate(config).size(), 1u);
  config.dvae.checkpoint = "models/dvae";
  EXPECT_THAT(validate(config), IsEmpty());
}

TEST(TrainedDvaeConfig, ReportsWhereATrainedDvaeDoesNotFit) {
  const TemporaryDirectory folder;
  write_dvae(folder.path());
  const std::string text =
      fmt::format("dvae:\n  checkpoint: {}\n  checkpoint_sha256: {}\n  model:\n    groups: 3\n",
                  folder.path().string(), std::string(64, 'a'));
  EXPECT_THAT(
      problems_of(text, {"data.kind=shapes", "data.image_size=66", "dvae.model.hidden=256"}),
      ElementsAre(StartsWith("--set dvae.model.hidden=256: dvae.model.hidden: found 256, expected "
                             "8, as in"),
                  AllOf(StartsWith("x.yaml:3:22: dvae.checkpoint_sha256: found aaaa"),
                        EndsWith("step-00000007: a different dVAE")),
                  StartsWith("--set data.image_size=66: data.image_size: found 66, "
                             "expected a multiple of 4")));
  EXPECT_THAT(
      problems_of("dvae: {checkpoint: nowhere}", {"data.kind=shapes"}),
      ElementsAre(StartsWith("x.yaml:1:20: dvae.checkpoint: nowhere: no such checkpoint or run")));
  EXPECT_THAT(problems_of("dvae: {checkpoint_sha256: aa}", {"data.kind=shapes"}),
              ElementsAre("x.yaml:1:27: dvae.checkpoint_sha256: found aa; must not be set without "
                          "dvae.checkpoint"));
}

}  // namespace
}  // namespace dalle
