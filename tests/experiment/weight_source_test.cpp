#include "experiment/config/weight_source.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "error_of.h"
#include "experiment/config/load_experiment.h"
#include "experiment/stages/initial_weights.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

NamedTensors tensors(float value) {
  return {{"w", torch::full({1}, value)}};
}

/// A run whose checkpoints have one weight: 1 of the dVAE, 2 of the transformer, 3 of clip.
class WeightSourceTest : public testing::Test {
 protected:
  WeightSourceTest() {
    config_.name = "a";
    config_.tokenizer.vocab_size = 300;
    config_.dvae.model = {.groups = 3, .hidden = 8, .vocab_size = 16};
    config_.dvae.train.steps = config_.dalle.train.steps = 7;
    config_.clip.emplace();
    config_.clip->model.patch_size = 8;
    config_.clip->train.steps = 7;
    save("dvae", {{"ema", tensors(1)}}, {});
    save("dalle", {{"ema", tensors(2)}, {"dvae", tensors(1)}}, {{"tokenizer.model", "words"}});
  }

  void save(const std::string& stage, std::map<std::string, NamedTensors> weights,
            std::map<std::string, std::string> files, int64_t step = 7) const {
    files["config.yaml"] = dump_config(config_);
    CheckpointStore(run_.checkpoints(stage), /*keep_last=*/3)
        .save({.step = step, .tensors = std::move(weights), .files = std::move(files)});
  }

  void save_clip(const std::string& tokenizer = "words") const {
    save("clip", {{"ema", tensors(3)}}, {{"tokenizer.model", tokenizer}});
  }

  fs::path checkpoint(const std::string& stage) const {
    return run_.checkpoints(stage) / "step-00000007";
  }

  std::vector<std::string> problems_of(const fs::path& from,
                                       const std::vector<std::string>& overrides) const {
    try {
      load_training({.from = from.string()}, overrides);
    } catch (const ConfigError& error) {
      std::vector<std::string> lines;
      for (const ConfigProblem& problem : error.problems()) lines.push_back(problem.text());
      return lines;
    } catch (const Error& error) {
      return {error.what()};
    }
    return {};
  }

  const TemporaryDirectory folder_;
  const RunPaths run_{folder_ / "a"};
  ExperimentConfig config_ = shapes_experiment();
};

TEST_F(WeightSourceTest, RecordsTheCheckpointAndTakesItsConfigWithAnotherName) {
  const ExperimentConfig tuned =
      load_training({.from = run_.root.string()}, {"dalle.train.learning_rate=0"});
  EXPECT_EQ(tuned.name, "a-tuned");
  EXPECT_EQ(tuned.from.checkpoint, checkpoint("dalle").string());
  EXPECT_EQ(tuned.from.checkpoint_sha256, sha256_of_file(checkpoint("dalle") / "manifest.json"));
  EXPECT_FALSE(tuned.trains_dvae());
  ExperimentConfig expected = config_;
  expected.name = "a-tuned";
  expected.from = tuned.from;
  expected.dalle.train.learning_rate = 0;
  EXPECT_EQ(tuned, expected);
  // What the source was trained on does not matter to what is trained from it.
  config_.dvae.checkpoint = config_.from.checkpoint = "elsewhere";
  config_.dvae.checkpoint_sha256 = config_.from.checkpoint_sha256 = "aa";
  save("dalle", {{"ema", tensors(2)}, {"dvae", tensors(1)}}, {{"tokenizer.model", "words"}}, 8);
  const ExperimentConfig again = load_training({.from = run_.root.string()}, {});
  EXPECT_THAT(again.from.checkpoint, EndsWith("step-00000008"));
  EXPECT_EQ(again.dvae.checkpoint, "");
}

TEST_F(WeightSourceTest, TakesTheContrastiveModelOfTheSameRun) {
  EXPECT_EQ(load_training({.from = run_.root.string()}, {}).from.clip_checkpoint, "");
  save_clip();
  for (const fs::path& path : {run_.root, checkpoint("dalle"), run_.checkpoints("dalle")}) {
    const FromConfig from = load_training({.from = path.string()}, {}).from;
    EXPECT_EQ(from.clip_checkpoint, checkpoint("clip").string());
    EXPECT_EQ(from.clip_checkpoint_sha256, sha256_of_file(checkpoint("clip") / "manifest.json"));
  }
  EXPECT_EQ(load_training({.from = run_.root.string()}, {"clip=null"}).from.clip_checkpoint, "");
  EXPECT_THAT(problems_of(run_.root, {"clip.model.text_width=64", "clip.model.recompute=true"}),
              ElementsAre(HasSubstr("clip.model.text_width: found 64, expected 512, as in the "
                                    "model at from.clip_checkpoint")));
  save_clip("other words");
  EXPECT_THAT(problems_of(run_.root, {}), ElementsAre(HasSubstr("its tokenizer differs")));
  config_.clip->train.steps = 9;  // unfinished
  save("clip", {{"ema", tensors(3)}}, {{"tokenizer.model", "words"}}, 8);
  EXPECT_EQ(load_training({.from = run_.root.string()}, {}).from.clip_checkpoint, "");
}

TEST_F(WeightSourceTest, FindsTheContrastiveModelByItself) {
  save_clip();
  const std::string given = "from.clip_checkpoint=" + run_.root.string();
  EXPECT_THAT(problems_of(checkpoint("dvae"), {given}),
              ElementsAre(HasSubstr("must not be set, because from.checkpoint is only a dVAE")));
  const ExperimentConfig tuned = load_training({.from = checkpoint("dalle").string()}, {});
  const std::string yaml = dump_config(tuned);
  fs::remove_all(run_.checkpoints("dalle"));
  ExperimentConfig again = load_experiment_text(yaml, "x.yaml");
  EXPECT_EQ(again, tuned);
  const fs::path moved = folder_ / "clip";
  fs::copy(checkpoint("clip"), moved, fs::copy_options::recursive);
  const std::vector<std::string> overrides = {"from.clip_checkpoint=" + moved.string(),
                                              "from.clip_checkpoint_sha256="};
  again = load_experiment_text(yaml, "x.yaml", overrides);
  EXPECT_EQ(again.from.clip_checkpoint_sha256, tuned.from.clip_checkpoint_sha256);
}

TEST_F(WeightSourceTest, ResumesWithWhatIsRecordedIfTheSourceIsGone) {
  const ExperimentConfig tuned = load_training({.from = run_.root.string()}, {});
  save_clip();  // which the run did not begin with
  EXPECT_EQ(load_experiment_text(dump_config(tuned), "x.yaml"), tuned);
  const RunPaths run(folder_ / "b");
  copy_weight_sources(tuned, run);
  const std::string yaml = dump_config(tuned);
  const std::vector<std::string> given = {"from.checkpoint=" + run_.root.string()};
  // Retrained at the same path.
  save("dalle", {{"ema", tensors(5)}, {"dvae", tensors(1)}}, {{"tokenizer.model", "words"}});
  EXPECT_EQ(load_experiment_text(yaml, "x.yaml"), tuned);
  copy_weight_sources(tuned, run);
  EXPECT_EQ(initial_weights(tuned, run, Stage::kDalle).value().at(0).second.item<float>(), 2);
  EXPECT_THAT(source_report(tuned), HasSubstr("not found; a resumed run uses its copy"));
  EXPECT_THAT(
      error_of([&] { load_experiment_text(yaml, "x.yaml", given); }),
      HasSubstr("from.checkpoint: found SHA-256 " +
                sha256_of_file(checkpoint("dalle") / "manifest.json") + " at " +
                checkpoint("dalle").string() + ", expected " + tuned.from.checkpoint_sha256));
  EXPECT_THAT(error_of([&] { check_weight_sources(tuned, run); }),
              AllOf(HasSubstr("found SHA-256 "), HasSubstr("has a copy: copy it elsewhere")));
  fs::remove_all(run_.root);
  EXPECT_EQ(load_experiment_text(yaml, "x.yaml"), tuned);
  EXPECT_THAT(problems_of(run_.root, {}), ElementsAre(HasSubstr("no such checkpoint or run")));
  // A mistyped path is not one that was recorded.
  EXPECT_THAT(error_of([&] { load_experiment_text(yaml, "x.yaml", given); }),
              HasSubstr("no such checkpoint or run"));
}

TEST_F(WeightSourceTest, CopiesACorruptCopyAgain) {
  const ExperimentConfig tuned = load_training({.from = run_.root.string()}, {});
  const RunPaths run(folder_ / "b");
  copy_weight_sources(tuned, run);
  const fs::path ema = run.from("dalle") / "step-00000007" / "ema.safetensors";
  std::string bytes = read_file(ema);
  bytes.back() ^= 1;
  write_file_atomically(ema, bytes);
  testing::internal::CaptureStderr();
  copy_weight_sources(tuned, run);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("copying it again"));
  EXPECT_EQ(initial_weights(tuned, run, Stage::kDalle).value().at(0).second.item<float>(), 2);
}

TEST_F(WeightSourceTest, NamesEveryMismatchAtOnce) {
  save_clip();
  EXPECT_THAT(
      problems_of(run_.root,
                  {"data.image_size=64", "tokenizer.vocab_size=400", "dvae.model.groups=2",
                   "dvae.model.hidden=16", "dvae.model.vocab_size=32", "dvae.model.post_gain=0.5",
                   "dalle.model.depth=2", "dalle.model.width=32", "dalle.model.heads=4",
                   "dalle.model.text_length=8", "dalle.model.attention=[dense]",
                   "dalle.model.last_attention=row", "dalle.model.conv_kernel=5",
                   "dalle.model.activation=quick_gelu"}),
      ElementsAre(
          HasSubstr("data.image_size: found 64, expected 32, as in the model at from.checkpoint"),
          HasSubstr("tokenizer.vocab_size: found 400, expected 300"),
          HasSubstr("dvae.model.groups: found 2, expected 3"),
          HasSubstr("dvae.model.hidden: found 16, expected 8"),
          HasSubstr("dvae.model.vocab_size: found 32, expected 16"),
          HasSubstr("dvae.model.post_gain: found 0.5, expected null"),
          HasSubstr("dalle.model.depth: found 2, expected 64"),
          HasSubstr("dalle.model.heads: found 4, expected 2"),
          HasSubstr("dalle.model.width: found 32, expected 16"),
          HasSubstr("dalle.model.text_length: found 8, expected 16"),
          HasSubstr("dalle.model.attention: found [dense], expected [row, column, row, row]"),
          HasSubstr("dalle.model.last_attention: found row, expected conv"),
          HasSubstr("dalle.model.conv_kernel: found 5, expected 3"),
          HasSubstr("dalle.model.activation: found quick_gelu, expected gelu")));
}

TEST_F(WeightSourceTest, LetsTrainingKeysDiffer) {
  EXPECT_THAT(
      problems_of(run_.root, {"dalle.model.dropout=0.1", "dalle.model.recompute=true",
                              "dalle.model.init=sparse_transformer", "dvae.freeze=false",
                              "dvae.model.codebook_init_std=1", "dvae.model.log_scale_floor=-1",
                              "tokenizer.dropout=0.2", "seed=5", "dalle.train.batch_size=8"}),
      IsEmpty());
}

TEST_F(WeightSourceTest, RefusesWhatCannotBeMeant) {
  EXPECT_THAT(problems_of(run_.root, {"dvae.checkpoint=" + run_.root.string()}),
              ElementsAre(HasSubstr("dvae.checkpoint: found ")));
  EXPECT_THAT(problems_of(run_.root, {"tokenizer.model=x.model"}),
              ElementsAre(StartsWith("--set tokenizer.model=x.model: tokenizer.model: found")));
  EXPECT_THAT(problems_of(run_.root, {"from.checkpoint_sha256=12"}),
              ElementsAre(AllOf(HasSubstr("from.checkpoint: found SHA-256 "),
                                HasSubstr(", expected 12; "))));
  save_clip();
  EXPECT_THAT(problems_of(checkpoint("clip"), {}),
              ElementsAre(HasSubstr("a checkpoint of the clip stage")));
  EXPECT_THAT(problems_of(folder_.path(), {}), ElementsAre(HasSubstr("holds no checkpoint")));
  config_.dalle.train.steps = 9;
  save("dalle", {{"ema", tensors(2)}, {"dvae", tensors(1)}}, {{"tokenizer.model", "words"}}, 8);
  EXPECT_THAT(problems_of(run_.root, {}),
              ElementsAre(HasSubstr("the dalle stage is at step 8 of 9")));
  EXPECT_THAT(problems_of(checkpoint("dalle"), {}), IsEmpty());
  EXPECT_THAT(error_of([&] {
                load_experiment_text("from: {clip_checkpoint: x}\ndata: {kind: shapes}", "x.yaml");
              }),
              HasSubstr("from.clip_checkpoint: found x; must not be set without from.checkpoint"));
  config_.dalle.train.steps = 7;
  config_.dalle.cache_codes = true;
  config_.dalle.crops_per_image = 1;
  save("dalle", {{"ema", tensors(2)}, {"dvae", tensors(1)}}, {{"tokenizer.model", "words"}}, 9);
  EXPECT_THAT(problems_of(run_.root, {"dalle.crops_per_image=0"}),
              ElementsAre(StartsWith("config of " + run_.root.string() +
                                     ": dalle.cache_codes: found true")));
}

TEST_F(WeightSourceTest, AStageBeginsWithTheCopyOfItsWeights) {
  save_clip();
  const ExperimentConfig tuned = load_training({.from = run_.root.string()}, {});
  const RunPaths run(folder_ / "b");
  EXPECT_THAT(error_of([&] { initial_weights(tuned, run, Stage::kDvae); }), HasSubstr("missing; "));
  copy_weight_sources(tuned, run);
  fs::remove_all(run_.root);
  copy_weight_sources(tuned, run);  // has them already
  const auto begins_with = [&](Stage stage) {
    return initial_weights(tuned, run, stage).value().at(0).second.item<float>();
  };
  EXPECT_EQ(begins_with(Stage::kDvae), 1);
  EXPECT_EQ(begins_with(Stage::kDalle), 2);
  EXPECT_EQ(begins_with(Stage::kClip), 3);
  EXPECT_EQ(initial_tokenizer(tuned, run), "words");
  // Another source needs another copy.
  ExperimentConfig other = tuned;
  other.from.checkpoint_sha256 = "aa";
  EXPECT_THAT(error_of([&] { copy_weight_sources(other, run); }), HasSubstr("no intact copy"));
  EXPECT_EQ(initial_weights(config_, run, Stage::kDalle), std::nullopt);
  // A run that has its tokenizer needs no copy of it.
  fs::remove_all(run.root / "from");
  EXPECT_THAT(error_of([&] { initial_tokenizer(tuned, run); }), HasSubstr("missing; "));
  write_file_atomically(run.tokenizer(), "words");
  EXPECT_EQ(initial_tokenizer(tuned, run), std::nullopt);
}

TEST_F(WeightSourceTest, ADvaeAloneGivesTheDvaeAlone) {
  const ExperimentConfig tuned = load_training(
      {.from = checkpoint("dvae").string()}, {"dvae.freeze=false", "data.image_size=64",
                                              "tokenizer.vocab_size=400", "dalle.model.width=32"});
  EXPECT_TRUE(tuned.trains_dvae());
  const RunPaths run(folder_ / "b");
  copy_weight_sources(tuned, run);
  EXPECT_EQ(initial_weights(tuned, run, Stage::kDvae).value().at(0).second.item<float>(), 1);
  EXPECT_EQ(initial_weights(tuned, run, Stage::kDalle), std::nullopt);
  EXPECT_EQ(initial_weights(tuned, run, Stage::kClip), std::nullopt);
  EXPECT_EQ(initial_tokenizer(tuned, run), std::nullopt);
}

TEST_F(WeightSourceTest, ReportsWhatEachStageBeginsWith) {
  const ExperimentConfig tuned = load_training({.from = run_.root.string()}, {});
  EXPECT_THAT(source_report(tuned),
              AllOf(StartsWith("initialized from " + checkpoint("dalle").string() + "\n"),
                    testing::ContainsRegex("tokenizer +kept\n"),
                    testing::ContainsRegex("dVAE +kept \\(dvae.freeze\\)\n"),
                    testing::ContainsRegex("transformer +trained further\n"),
                    testing::ContainsRegex("contrastive model +new\n")));
  EXPECT_EQ(source_report(config_), "");
}

}  // namespace
}  // namespace dalle
