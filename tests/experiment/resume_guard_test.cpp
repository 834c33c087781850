#include "experiment/resume_guard.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/config/config_io.h"
#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ResumeGuardTest : public testing::Test {
 protected:
  ResumeGuardTest() : run_(folder_.path()) {
    config_.data.kind = DatasetKind::kShapes;
    config_.data.shapes.samples = 20;
    config_.data.shapes.validation_samples = 10;
    write_file_atomically(run_.config(), dump_config(config_));
  }

  void begin(Stage stage) const {
    if (stage == Stage::kTokenizer)
      write_file_atomically(run_.tokenizer(), "a model");
    else
      make_directories(run_.checkpoints(to_string(stage)));
  }

  std::string error_of_config(const ExperimentConfig& config, bool allowed = false) const {
    return error_of([&] { check_config_change(read_previous_run(run_), config, run_, allowed); });
  }

  std::string error_of_data(const ExperimentConfig& config, bool allowed = false) const {
    const ExperimentData data(config, run_);
    return error_of(
        [&] { check_data_change(read_previous_run(run_), config, data, run_, allowed); });
  }

  const TemporaryDirectory folder_;
  const RunPaths run_;
  ExperimentConfig config_;
};

TEST_F(ResumeGuardTest, AllowsAnyConfigUntilAStageHasStarted) {
  config_.seed = 2;
  EXPECT_EQ(error_of_config(config_), "no error");
  begin(Stage::kTokenizer);
  EXPECT_NE(error_of_config(config_), "no error");
}

TEST_F(ResumeGuardTest, RefusesAnotherConfigAndListsTheKeys) {
  begin(Stage::kDvae);
  ExperimentConfig other = config_;
  other.seed = 2;
  other.dvae.train.learning_rate = 0.5;
  other.dalle.train.learning_rate = 0.5;  // has not started
  other.dvae.train.steps += 1;            // may change
  EXPECT_THAT(error_of_config(other),
              AllOf(HasSubstr("\n  seed: 1 -> 2\n  dvae.train.learning_rate: 0.0001 -> 0.5"),
                    HasSubstr("--allow-config-change"), Not(HasSubstr("dalle.train")),
                    Not(HasSubstr("steps"))));
  EXPECT_EQ(error_of_config(other, /*allowed=*/true), "no error");
  EXPECT_EQ(error_of_config(config_), "no error");
}

TEST_F(ResumeGuardTest, RefusesAnotherTrainedDvaeOnceTheTransformerLearnsItsCodes) {
  config_.dvae.checkpoint = "models/a";
  config_.dvae.checkpoint_sha256 = "aa";
  write_file_atomically(run_.config(), dump_config(config_));
  begin(Stage::kTokenizer);
  ExperimentConfig other = config_;
  other.dvae.checkpoint_sha256 = "bb";
  EXPECT_EQ(error_of_config(other), "no error");
  begin(Stage::kDalle);
  EXPECT_THAT(error_of_config(other), HasSubstr("dvae.checkpoint_sha256: \"aa\" -> \"bb\""));
  // The flag cannot help: the copy in the checkpoints is used.
  EXPECT_THAT(error_of_config(other, /*allowed=*/true), HasSubstr("use that one again"));
  other = config_;
  other.dvae.checkpoint = "elsewhere/a";
  other.dvae.train.learning_rate = 0.5;  // it is not trained here
  EXPECT_EQ(error_of_config(other), "no error");
}

TEST_F(ResumeGuardTest, RefusesOtherWeightsToBeginWithWhateverIsAllowed) {
  config_.from.checkpoint = "runs/a/step";
  config_.from.checkpoint_sha256 = "aa";
  write_file_atomically(run_.config(), dump_config(config_));
  ExperimentConfig other = config_;
  other.from.checkpoint_sha256 = "bb";
  EXPECT_EQ(error_of_config(other), "no error");
  begin(Stage::kTokenizer);
  for (const bool allowed : {false, true}) {
    EXPECT_THAT(error_of_config(other, allowed),
                AllOf(HasSubstr("from.checkpoint_sha256: \"aa\" -> \"bb\""),
                      HasSubstr("began with the weights of runs/a/step")));
    other.from = {};
    EXPECT_THAT(error_of_config(other, allowed), HasSubstr("began with the weights of"));
    other.from.checkpoint_sha256 = "bb";
  }
  other = config_;
  other.from.checkpoint = "elsewhere";
  other.from.clip_checkpoint_sha256 = "cc";  // its stage has not started
  EXPECT_EQ(error_of_config(other), "no error");
  begin(Stage::kClip);
  EXPECT_THAT(error_of_config(other), HasSubstr("from.clip_checkpoint_sha256"));
}

TEST_F(ResumeGuardTest, RefusesWeightsForARunThatBeganWithRandomOnes) {
  begin(Stage::kTokenizer);
  ExperimentConfig other = config_;
  other.from.checkpoint = "runs/a/step";
  other.from.checkpoint_sha256 = "aa";
  EXPECT_THAT(error_of_config(other, /*allowed=*/true), HasSubstr("began with random weights"));
}

TEST_F(ResumeGuardTest, RefusesOtherImages) {
  EXPECT_EQ(error_of_data(config_), "no error");  // records them
  begin(Stage::kDvae);
  EXPECT_EQ(error_of_data(config_), "no error");
  ExperimentConfig other = config_;
  other.data.shapes.samples = 21;
  EXPECT_THAT(error_of_data(other), AllOf(HasSubstr("a different data set"), HasSubstr("20 images"),
                                          HasSubstr("21 images")));
  EXPECT_EQ(error_of_data(config_), "no error");  // a refused change is not recorded
  EXPECT_EQ(error_of_data(other, /*allowed=*/true), "no error");
  EXPECT_EQ(error_of_data(other), "no error");
}

TEST_F(ResumeGuardTest, KnowsTheImagesThatVersion01Recorded) {
  begin(Stage::kDvae);
  std::string identity = ExperimentData(config_, run_).fingerprint();
  for (size_t at; (at = identity.find(" images, ")) != identity.npos;)
    identity.replace(at, 9, " pictures, ");
  ASSERT_THAT(identity, HasSubstr("20 pictures, "));
  write_file_atomically(run_.data(), identity);
  EXPECT_EQ(error_of_data(config_), "no error");
  EXPECT_THAT(read_file(run_.data()), HasSubstr("20 images, "));
}

}  // namespace
}  // namespace dalle
