#include "dalle/train.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/files.h"
#include "core/log.h"
#include "dalle/model.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

TrainRequest tiny_training(const std::filesystem::path& run_folder) {
  return {.config = "tests/tools/tiny.yaml",
          .overrides = {"dvae.train.steps=10", "dalle.train.steps=10"},
          .run_folder = run_folder,
          .device = "cpu"};
}

TEST(Train, FinishesAndResumes) {
  const TemporaryDirectory folder;
  TrainRequest request = tiny_training(folder / "run");
  request.stage = "tokenizer";
  EXPECT_TRUE(train(request).finished());
  EXPECT_TRUE(exists(folder / "run" / "tokenizer.model"));
  EXPECT_FALSE(exists(folder / "run" / "checkpoints"));
  request.stage = "";
  const TrainResult result = train(request);
  EXPECT_TRUE(result.finished());
  EXPECT_EQ(Model::load(result.run_folder, "cpu").step(), 10);
  request.overrides = {"dvae.train.steps=10", "dalle.train.steps=15"};
  train(request);
  EXPECT_EQ(Model::load(result.run_folder, "cpu").step(), 15);
  request.restart = true;
  request.stage = "tokenizer";
  train(request);
  EXPECT_FALSE(exists(folder / "run" / "checkpoints"));
  EXPECT_TRUE(exists(folder / "run.old-1" / "checkpoints"));
}

TEST(Train, FineTunesWithTheConfigOfTheModel) {
  const TemporaryDirectory folder;
  train(tiny_training(folder / "run"));
  const TrainResult result = train({.from = folder / "run",
                                    .overrides = {"dalle.train.learning_rate=0"},
                                    .run_folder = folder / "tuned",
                                    .device = "cpu"});
  EXPECT_TRUE(result.finished());
  const Model before = Model::load(folder / "run", "cpu"),
              after = Model::load(folder / "tuned", "cpu");
  EXPECT_TRUE(after.generate("a red circle").equal(before.generate("a red circle")));
}

TEST(Train, TheContrastiveModelOfARunSelectsTheBestOfItsImages) {
  const TemporaryDirectory folder;
  TrainRequest request = tiny_training(folder / "run");
  train(request);
  const Model without = Model::load(folder / "run", "cpu");
  EXPECT_NE(
      error_of([&] { without.generate("a red circle", {.best_of = 2}); }).find("no reranker for"),
      std::string::npos);
  request.stage = "clip";
  request.overrides.emplace_back(
      "clip={model: {patch_size: 8, image_depth: 1, image_heads: 2, image_width: 16, text_depth: "
      "1, text_heads: 2, text_width: 16, text_length: 16, embed_dim: 8}, train: {steps: 4, "
      "batch_size: 8}}");
  EXPECT_TRUE(train(request).finished());
  const Model model = Model::load(folder / "run", "cpu");
  const at::Tensor plain = model.generate("a red circle", {.count = 5});
  const at::Tensor ranked = model.generate("a red circle", {.count = 5, .best_of = 5});
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 5; ++i)
    for (int64_t j = 0; j < 5; ++j)
      if (ranked[i].equal(plain[j])) order.push_back(j);
  std::ranges::sort(order);
  EXPECT_EQ(order, (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(
      model.generate("a red circle", {.count = 2, .best_of = 5}).equal(ranked.slice(0, 0, 2)));
  EXPECT_TRUE(model.generate("a red circle", {.count = 1, .best_of = 1})[0].equal(plain[0]));
}

TEST(Train, StopsAndSavesWhenItIsAskedTo) {
  const TemporaryDirectory folder;
  TrainRequest request = tiny_training(folder / "run");
  request.overrides = {"dvae.train.steps=100000", "dvae.train.save_every=100000"};
  const auto has_reported_a_step = [&] {
    std::error_code missing;
    const auto size = std::filesystem::file_size(folder / "run" / "metrics.jsonl", missing);
    return !missing && size > 0;
  };
  const std::jthread stopping([&](const std::stop_token& stop) {
    while (!stop.stop_requested() && !has_reported_a_step())
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!stop.stop_requested()) std::raise(SIGTERM);
  });
  const TrainResult result = train(request);
  EXPECT_EQ(result.signal, SIGTERM);
  EXPECT_FALSE(result.finished());
  EXPECT_FALSE(std::filesystem::is_empty(folder / "run" / "checkpoints" / "dvae"));
}

TEST(Train, LeavesTheLogFileOfAFinishedRunAlone) {
  const TemporaryDirectory folder;
  TrainRequest request = tiny_training(folder / "run");
  request.stage = "tokenizer";
  train(request);
  log_info("a line after the run");
  const std::string log = read_file(folder / "run" / "log.txt");
  EXPECT_NE(log.find("finished: "), std::string::npos);
  EXPECT_EQ(log.find("a line after the run"), std::string::npos);
}

TEST(Train, NamesWhatIsInvalid) {
  const TemporaryDirectory folder;
  const auto message_of = [&](const auto& change) {
    TrainRequest request = tiny_training(folder / "run");
    change(request);
    return error_of([&] { train(request); });
  };
  EXPECT_TRUE(message_of([](TrainRequest& request) {
                request.stage = "critic";
              }).starts_with("stage \"critic\""));
  EXPECT_TRUE(message_of([](TrainRequest& request) {
                request.stage = "clip";
              }).starts_with("stage clip: the config has no clip section"));
  EXPECT_TRUE(message_of([](TrainRequest& request) {
                request.device = "tpu";
              }).starts_with("device \"tpu\""));
  EXPECT_TRUE(message_of([](TrainRequest& request) {
                request.config = "missing.yaml";
              }).starts_with("missing.yaml"));
  const std::string keys = message_of([](TrainRequest& request) {
    request.overrides = {"dvae.train.stepz=1", "seed=-1"};
  });
  EXPECT_NE(keys.find("dvae.train.stepz"), std::string::npos) << keys;
  EXPECT_NE(keys.find("seed"), std::string::npos) << keys;
  EXPECT_FALSE(exists(folder / "run"));
}

}  // namespace
}  // namespace dalle
