// The files under configs/; tests run in the root of the repository.

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/config/config_io.h"
#include "core/files.h"
#include "experiment/config/cost_estimate.h"
#include "experiment/config/load_experiment.h"

namespace dalle {
namespace {

std::vector<std::string> shipped() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator("configs"))
    if (entry.is_regular_file())
      names.push_back(entry.path().lexically_relative("configs").replace_extension().string());
  std::ranges::sort(names);
  return names;
}

std::string path_of(const std::string& name) {
  return "configs/" + name + ".yaml";
}

/// With the path that a user must give.
ExperimentConfig load(const std::string& name) {
  const std::vector<std::string> overrides = {"data.path=data"};
  return load_experiment(path_of(name), overrides);
}

TEST(ShippedConfigs, AreTheOnesThatTheReadmeNames) {
  const std::vector<std::string> names = shipped();
  for (const char* name :
       {"dalle-1.3b", "dalle-120m", "dalle-350m", "dalle-50m", "paper-12b", "paper-dvae",
        "images-256", "images-64", "shapes-64", "experiments/codebook", "experiments/recolor"})
    EXPECT_THAT(names, testing::Contains(name));
}

TEST(ShippedConfigs, LoadAndBearTheNameOfTheirFile) {
  for (const std::string& name : shipped()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(load(name).name, std::filesystem::path(name).filename().string());
  }
}

TEST(ShippedConfigs, PrintWhatLoadsAgain) {
  for (const std::string& name : shipped()) {
    SCOPED_TRACE(name);
    const ExperimentConfig config = load(name);
    const std::string text = dump_config(config);
    const ExperimentConfig again = load_experiment_text(text, name);
    EXPECT_EQ(again, config);
    EXPECT_EQ(dump_config(again), text);
  }
}

TEST(ShippedConfigs, NeedNoPathForShapesOnly) {
  for (const std::string& name : shipped()) {
    SCOPED_TRACE(name);
    if (load(name).data.kind == DatasetKind::kShapes) {
      EXPECT_NO_THROW(load_experiment(path_of(name)));
    } else {
      EXPECT_THROW(load_experiment(path_of(name)), ConfigError);
    }
  }
}

TEST(ShippedConfigs, NeedOnlyTheirStepsForAShortTry) {
  const std::vector<std::string> overrides = {"data.path=data", "dvae.train.steps=4",
                                              "dalle.train.steps=4"};
  for (const std::string& name : shipped())
    EXPECT_NO_THROW(load_experiment(path_of(name), overrides)) << name;
}

TEST(ShippedConfigs, HaveTheSizesOfTheirNames) {
  const std::map<std::string, double> sizes = {{"dalle-50m", 51e6},
                                               {"dalle-120m", 123e6},
                                               {"dalle-350m", 354e6},
                                               {"dalle-1.3b", 1.31e9},
                                               {"paper-12b", 12.3e9}};
  for (const auto& [name, size] : sizes) {
    const ExperimentConfig config = load(name);
    const double parameters =
        static_cast<double>(estimate_dalle_cost(config, config.tokenizer.vocab_size).parameters());
    EXPECT_NEAR(parameters / size, 1, 0.01) << name;
    EXPECT_EQ(config.layout(), SequenceLayout{}) << name;
    EXPECT_EQ(config.dalle.model.width / config.dalle.model.heads, 64) << name;
  }
}

TEST(ShippedConfigs, AnnealTheTemperatureSlowlyOrFromMixturesOfCodes) {
  for (const std::string& name : shipped()) {
    if (name.starts_with("paper")) continue;
    SCOPED_TRACE(name);
    const DvaeTrainConfig train = load(name).dvae.train;
    const double share =
        static_cast<double>(train.temperature.steps) / static_cast<double>(train.steps);
    EXPECT_GE(share, train.temperature.from >= 3 ? 0.25 : 0.8);  // see docs/log.md
    EXPECT_LE(share, 1);
    EXPECT_GE(train.kl_weight.at(0), 1);
    EXPECT_GT(train.max_grad_norm, 0);
  }
}

class PaperConfig : public testing::TestWithParam<std::string> {
 protected:
  /// Lines that give a key a value, by the key's last name.
  static void expect_comments(const std::string& text) {
    std::istringstream lines(text);
    int64_t values = 0;
    for (std::string line; std::getline(lines, line);) {
      const size_t colon = line.find(':');
      const bool gives_value =
          !line.empty() && line.front() != '#' && colon != line.npos && colon + 1 < line.size();
      if (!gives_value) continue;
      ++values;
      EXPECT_NE(line.find(" # "), line.npos) << line;
    }
    EXPECT_GT(values, 40);
  }
};

TEST_P(PaperConfig, AnnotatesEveryValue) {
  expect_comments(read_file(path_of(GetParam())));
}

TEST_P(PaperConfig, WritesOutEveryKeyOfItsStages) {
  const ConfigSchema schema = config_schema<ExperimentConfig>();
  const ConfigReading reading = read_config_file(schema, path_of(GetParam()));
  const bool is_dvae_only = GetParam() == "paper-dvae";
  for_each_key(schema, [&](const std::string& path, const ConfigKey&) {
    const bool belongs_to_later_stage =
        path.starts_with("dalle.") || path.starts_with("tokenizer.") || path.starts_with("sample.");
    // The paper's contrastive model was a trained one.
    if (path.starts_with("data.shapes.") || path.starts_with("clip") ||
        (is_dvae_only && belongs_to_later_stage))
      return;
    EXPECT_NE(reading.place_of(path), "") << path;
  });
}

TEST_P(PaperConfig, DiffersFromTheDefaultsOnlyWhereThePaperIsSilent) {
  const std::vector<std::string_view> silent = {
      "name",
      "data",
      "dvae.train.micro_batch_size",
      "dvae.train.precision",
      "dvae.train.log_every",
      "dvae.train.eval_every",
      "dvae.train.save_every",
      "dalle.train.micro_batch_size",
      "dalle.train.precision",
      "dalle.train.log_every",
      "dalle.train.eval_every",
      "dalle.train.save_every",
      "dalle.train.sample_every",
      "dalle.model.recompute"};  // section 2.4 has it; off by default, since it costs time
  std::vector<std::string> keys;
  for (const ConfigChange& change : diff_configs(ExperimentConfig{}, load(GetParam()), silent))
    keys.push_back(change.key);
  EXPECT_THAT(keys, testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Files, PaperConfig, testing::Values("paper-dvae", "paper-12b"),
                         [](const auto& name) {
                           std::string text = name.param;
                           std::ranges::replace(text, '-', '_');
                           return text;
                         });

}  // namespace
}  // namespace dalle
