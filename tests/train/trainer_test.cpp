#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <new>
#include <thread>

#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include "core/error.h"
#include "data/image/image.h"
#include "error_of.h"
#include "tensor/named_tensors.h"
#include "train/affine_task.h"
#include "train/training_counters.h"

namespace dalle {
namespace {

using testing::HasSubstr;

TEST_F(TrainerTest, Learns) {
  TrainConfig config = small_config();
  config.steps = 400;
  AffineTask task;
  const Outcome outcome = train("run", config, task);
  EXPECT_TRUE(torch::allclose(outcome.weights.slice(0, 0, 4), torch::ones({4}), 0, 0.1))
      << outcome.weights;
}

TEST_F(TrainerTest, UsesEverySampleOnceAndInOrder) {
  AffineTask task;
  train("run", small_config(), task);
  ASSERT_EQ(task.seen.size(), 24u * 12);
  for (size_t i = 0; i < task.seen.size(); ++i) ASSERT_EQ(task.seen[i], static_cast<int64_t>(i));
}

TEST_F(TrainerTest, AnySplitIntoMicroBatchesGivesTheSameWeightsWithinRounding) {
  const Outcome whole = train("whole", small_config());
  for (const int64_t micro_batch_size : {1, 3, 4, 6}) {
    TrainConfig config = small_config();
    config.micro_batch_size = micro_batch_size;
    const Outcome cut = train("cut-" + std::to_string(micro_batch_size), config);
    EXPECT_TRUE(torch::allclose(cut.weights, whole.weights, 1e-5, 1e-6)) << micro_batch_size;
  }
}

TEST_F(TrainerTest, ResumedEqualsUninterruptedBitForBit) {
  const Outcome whole = train("whole", small_config());
  for (const bool killed : {false, true})
    for (int64_t cut = 1; cut < 24; ++cut) {
      const std::string name = fmt::format("{}-{}", killed ? "killed" : "stopped", cut);
      stop_after(cut, name);
      if (killed && cut % small_config().save_every != 0)  // then its last step was never saved
        std::filesystem::remove_all(folder_ / name / "checkpoints" / "affine" /
                                    fmt::format("step-{:08d}", cut));
      const Outcome resumed = train(name, small_config());
      EXPECT_TRUE(torch::equal(resumed.weights, whole.weights)) << name;
      EXPECT_EQ(resumed.metrics, whole.metrics) << name;
    }
}

TEST_F(TrainerTest, SavesWhenSoManyMinutesHavePassed) {
  TrainConfig config = small_config();
  config.save_every = 1000;
  config.save_every_minutes = 1e-9;  // after every step
  config.keep_last = 100;
  train("run", config);
  const RunFolder run(folder_ / "run");
  EXPECT_EQ(checkpoints_in(run.checkpoints("affine")).size(), 24u);
}

TEST_F(TrainerTest, WorkersAndPrefetchChangeNothing) {
  const Outcome one = train("one", small_config());
  AffineTask task;
  const RunFolder run(folder_ / "many");
  const StopSignal stop;
  const TrainConfig config = small_config();
  Trainer trainer(task, config, run, {.data_workers = 5, .prefetch = 1, .matmul_flops = kAnyRate});
  trainer.run(stop);
  EXPECT_TRUE(torch::equal(all_weights(task), one.weights));
}

TEST_F(TrainerTest, AFinishedRunIsNotTrainedAgain) {
  train("run", small_config());
  AffineTask task;
  train("run", small_config(), task);
  EXPECT_TRUE(task.seen.empty());
}

TEST_F(TrainerTest, DoesNotResumeWithADifferentTokenizer) {
  AffineTask first;
  first.tokenizer = "of the run";
  train("run", small_config(), first);
  AffineTask second;
  second.tokenizer = "retrained";
  EXPECT_EQ(error_of([&] { train("run", small_config(), second); }),
            "affine: the tokenizer of its checkpoint differs from the one in the run folder");
}

TEST_F(TrainerTest, ShowsAGroupOfSampleImagesPerRow) {
  train("run", small_config());
  const RgbImage grid = decode_image(read_file(folder_ / "run/samples/affine/grey-00000024.png"));
  EXPECT_EQ(grid.width, 2 + 1 + 2);  // three groups of one pixel each, with margins
  EXPECT_EQ(grid.height, 2 + 3 * (1 + 2));
}

TEST_F(TrainerTest, SavesAStepBeforeItsSampleImages) {
  AffineTask task;
  std::vector<int64_t> saved;  // that step's checkpoint was complete, or under way
  const auto checkpoints = RunPaths(folder_ / "run").checkpoints("affine");
  task.before_images = [&](int64_t step) {
    for (int attempt = 0; attempt < 500 && (saved.empty() || saved.back() != step); ++attempt) {
      const auto newest = checkpoints_in(checkpoints);
      if (!newest.empty() && newest[0].filename() == fmt::format("step-{:08d}", step))
        saved.push_back(step);
      else
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  };
  train("run", small_config(), task);
  EXPECT_THAT(saved, testing::ElementsAre(8, 16, 24));
}

TEST_F(TrainerTest, WithoutMemoryForSampleImagesTrainingContinuesAndTheLogNamesTheKey) {
  const Outcome whole = train("whole", small_config());
  AffineTask task;
  task.before_images = [](int64_t step) {
    if (step == 8) TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory.");
    if (step == 16) throw std::bad_alloc();
  };
  testing::internal::CaptureStderr();
  const Outcome outcome = train("run", small_config(), task);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(torch::equal(outcome.weights, whole.weights));
  EXPECT_EQ(outcome.metrics, whole.metrics);
  const auto samples = folder_ / "run" / "samples" / "affine";
  EXPECT_FALSE(std::filesystem::exists(samples / "grey-00000008.png"));
  EXPECT_TRUE(std::filesystem::exists(samples / "grey-00000024.png"));
  for (const int step : {8, 16})
    EXPECT_THAT(
        log,
        HasSubstr(fmt::format(
            "affine: step {}: out of memory while generating sample images, which are skipped; "
            "training continues. Increase affine.train.eval_every to try less often: ",
            step)));
}

TEST_F(TrainerTest, AFinishedRunThatIsExtendedEqualsALongerOneBitForBit) {
  TrainConfig config = small_config();
  config.plateau = {.patience = 1, .threshold = 0.9, .max_reductions = 5};
  config.eval_every = 15;
  config.log_every = 15;
  config.steps = 60;
  const Outcome whole = train("whole", config);
  for (const int64_t steps : {20, 40, 60}) {
    config.steps = steps;
    train("extended", config);
  }
  const auto final_state = [&](const char* name) {
    return read_newest_checkpoint(RunPaths(folder_ / name).checkpoints("affine")).value();
  };
  const CheckpointContent expected = final_state("whole"), extended = final_state("extended");
  for (const char* file : {"weights", "ema", "first_moment", "second_moment"})
    EXPECT_EQ(safetensors_bytes(extended.tensors.at(file)),
              safetensors_bytes(expected.tensors.at(file)))
        << file;
  const auto state_of = [](const CheckpointContent& content) {
    return TrainingCounters::from_json(content.files.at("trainer.json"), "test");
  };
  EXPECT_GT(state_of(expected).plateau.reductions, 0);
  EXPECT_EQ(state_of(extended).plateau.reductions, state_of(expected).plateau.reductions);
  // The extended run has lines of the steps that were its last ones; the others are the same.
  const std::vector<std::string> lines = metrics_of(folder_ / "extended");
  for (const std::string& line : whole.metrics) EXPECT_THAT(lines, testing::Contains(line));
}

TEST_F(TrainerTest, EvaluatesWithAveragedWeights) {
  AffineTask task;
  const Outcome outcome = train("run", small_config(), task);
  ASSERT_EQ(task.evaluated_weights.size(), 4u);
  EXPECT_FALSE(torch::equal(task.evaluated_weights.back(), outcome.weights.slice(0, 0, 4)));
  const RunFolder run(folder_ / "run");
  const auto saved = read_newest_checkpoint(run.checkpoints("affine"));
  for (const auto& [name, tensor] : saved->tensors.at("ema"))
    if (name == "weight") {
      EXPECT_TRUE(torch::equal(tensor, task.evaluated_weights.back()));
    }
}

TEST_F(TrainerTest, ABadStepTouchesNothing) {
  // Without the bad step's batch the run is the same as one that never saw it, but for the
  // schedule's step.
  TrainConfig config = small_config();
  config.warmup_steps = 0;
  config.steps = 1;
  AffineTask before;
  const Outcome first = train("first", config, before);
  config.steps = 2;
  AffineTask bad;
  bad.bad_steps = {1};
  const Outcome second = train("second", config, bad);
  EXPECT_TRUE(torch::equal(first.weights, second.weights));
  const RunFolder one(folder_ / "first"), two(folder_ / "second");
  const auto saved_first = read_newest_checkpoint(one.checkpoints("affine"));
  const auto saved_second = read_newest_checkpoint(two.checkpoints("affine"));
  for (const char* file : {"weights", "ema", "first_moment", "second_moment"})
    for (size_t i = 0; i < 2; ++i)
      EXPECT_TRUE(torch::equal(saved_first->tensors.at(file)[i].second,
                               saved_second->tensors.at(file)[i].second))
          << file;
}

TEST_F(TrainerTest, TooManyBadStepsInARowEndTheRunAndNameTheCulprit) {
  AffineTask task;
  task.bad_steps = {3, 4, 6, 7, 8};
  const RunFolder run(folder_ / "run");
  const StopSignal stop;
  const TrainConfig config = small_config();
  Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
  try {
    trainer.run(stop);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(
        error.what(),
        HasSubstr(
            "affine: step 9: 3 steps in a row were skipped, the last because loss is nan, the "
            "gradient of weight is not finite"));
  }
}

TEST_F(TrainerTest, SavesTheBestAsSoonAsItIsEvaluated) {
  TrainConfig config = small_config();
  config.save_every = 1000;
  config.keep_last = 1;
  for (const bool keep_best : {true, false}) {
    config.keep_best = keep_best;
    const std::string name = keep_best ? "best" : "last";
    double best = std::numeric_limits<double>::infinity();
    std::string best_step;
    for (const std::string& line : train(name, config).metrics) {
      const auto json = nlohmann::json::parse(line);
      if (!json.contains("validation_bias")) continue;
      const double score = std::abs(json.at("validation_bias").get<double>());
      if (score < best) best_step = fmt::format("step-{:08d}", json.at("step").get<int64_t>());
      best = std::min(best, score);
    }
    ASSERT_NE(best_step, "step-00000024") << "the last is the best: nothing is shown";
    const auto folder = RunPaths(folder_ / name).checkpoints("affine");
    EXPECT_EQ(checkpoints_in(folder).size(), keep_best ? 2u : 1u);
    EXPECT_EQ(best_checkpoint(folder)->filename(), keep_best ? best_step : "step-00000024");
  }
}

TEST_F(TrainerTest, ClipsTheGradientsNorm) {
  TrainConfig config = small_config();
  config.max_grad_norm = 1e-12;  // as good as no gradient: AdamW's epsilon then rules
  config.weight_decay = 0;
  config.epsilon = 1.0;
  const Outcome outcome = train("run", config);
  EXPECT_TRUE(
      torch::allclose(outcome.weights, torch::tensor({0.5F, 0.5F, 0.5F, 0.5F, 0.0F}), 0, 1e-6));
}

TEST_F(TrainerTest, ACorruptCheckpointFallsBackToThePreviousOne) {
  const Outcome whole = train("run", small_config());
  std::filesystem::path newest;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder_ / "run" / "checkpoints" / "affine"))
    if (entry.is_directory() && entry.path() > newest) newest = entry.path();
  std::string bytes = read_file(newest / "weights.safetensors");
  bytes.back() ^= 1;
  write_file_atomically(newest / "weights.safetensors", bytes);
  AffineTask task;
  const Outcome again = train("run", small_config(), task);
  EXPECT_EQ(task.seen.size(), 4u * 12);  // from step 20 on
  EXPECT_TRUE(torch::equal(again.weights, whole.weights));
  EXPECT_EQ(again.metrics, whole.metrics);
}

}  // namespace
}  // namespace dalle
