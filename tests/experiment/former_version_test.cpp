// tests/fixtures/run-0.1 is a run of version 0.1: twenty steps of each stage on the built-in
// shapes, with the last checkpoint of each. Its keys and file names have changed since. Tests run
// in the root of the repository.

#include <filesystem>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "core/files.h"
#include "experiment/config/load_experiment.h"
#include "experiment/experiment.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/decode_image.h"
#include "sample/generate_codes.h"
#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;

const fs::path kFixture = "tests/fixtures/run-0.1";

/// The numbers that a run reported of a step of the dalle stage.
std::map<std::string, double> metrics_of_step(const fs::path& metrics, int64_t step) {
  std::map<std::string, double> numbers;
  std::istringstream lines(read_file(metrics));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.at("stage") != "dalle" || json.at("step") != step) continue;
    for (const auto& [name, value] : json.items())
      if (value.is_number()) numbers[name] = value.get<double>();
  }
  return numbers;
}

TEST(FormerVersion, ItsCheckpointsAreIntact) {
  for (const char* stage : {"dvae", "dalle"})
    EXPECT_NO_THROW(verify_checkpoint(kFixture / "checkpoints" / stage / "step-00000020"));
}

TEST(FormerVersion, ItsModelGeneratesImages) {
  const TrainedDalle dalle = load_trained_dalle(kFixture, c10::kCPU);
  EXPECT_EQ(dalle.step, 20);
  EXPECT_EQ(dalle.config.dalle.train.max_grad_norm, 4);
  EXPECT_EQ(dalle.config.dalle.train.ema_decay, 0.99);
  const CaptionImages request{.caption = caption_tokens(dalle, "a red circle"), .count = 2};
  std::vector<RgbImage> images;
  generate_codes(dalle.model, std::span(&request, 1), {}, {.seed = 1},
                 [&](size_t, int64_t, const at::Tensor& codes) {
                   images.push_back(decode_image(dalle.vae, codes));
                 });
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[0].width, 32);
}

TEST(FormerVersion, ItsRunResumesWithTheNumbersThatItWouldHaveHad) {
  const TemporaryDirectory folder;
  fs::copy(kFixture, folder / "run", fs::copy_options::recursive);
  const std::vector<std::string> overrides = {"dalle.train.steps=25"};
  const ExperimentConfig config = load_experiment(folder / "run" / "config.yaml", overrides);
  const RunFolder run(folder / "run");
  const StopSignal stop;
  ASSERT_EQ(run_experiment(config, run, {}, stop), TrainOutcome::kFinished);

  // Version 0.1 itself went on to these; processors round differently.
  const std::map<std::string, double> metrics = metrics_of_step(run.metrics(), 25);
  EXPECT_NEAR(metrics.at("loss"), 2.56915, 0.01);
  EXPECT_NEAR(metrics.at("validation"), 3.08199, 0.01);
  EXPECT_EQ(checkpoints_in(run.checkpoints("dvae")).size(), 1u);  // the dVAE was finished
  const fs::path newest = checkpoints_in(run.checkpoints("dalle")).front();
  EXPECT_EQ(newest.filename(), "step-00000025");
  EXPECT_TRUE(fs::exists(newest / (std::string(kEmaTensors) + ".safetensors")));
}

}  // namespace
}  // namespace dalle
