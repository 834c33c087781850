#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "data/image/image.h"
#include "dist/process_group.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/evaluation/image_generator.h"
#include "experiment/evaluation/model_evaluation.h"
#include "experiment/stages/experiment_data.h"
#include "sample/decode_image.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"
#include "train/chunked_work.h"

#include <nlohmann/json.hpp>

namespace dalle {

using nlohmann::ordered_json;

inline ExperimentConfig tiny_experiment() {
  ExperimentConfig config = shapes_experiment();
  config.dvae.model = {
      .groups = 3, .blocks_per_group = 1, .hidden = 8, .vocab_size = 16, .codebook_width = 8};
  config.dalle.model.depth = 1;
  config.dalle.model.text_length = 96;  // no caption is truncated
  return config;
}

class ModelEvaluationTest : public testing::Test {
 protected:
  ModelEvaluationTest() : vae_(config_.dvae.model, Precision::kFloat32) {
    vae_->initialize(initial_weights_generator(config_, Stage::kDvae));
  }

  EvaluatedModel dvae_alone() const {
    return {.checkpoint = "step-00000001",
            .hash = "abc",
            .step = 1,
            .config = config_,
            .vae = vae_,
            .dalle = std::nullopt};
  }

  /// With random weights.
  EvaluatedModel with_transformer() const {
    Tokenizer tokenizer(train_tokenizer(
        [n = 0]() mutable -> std::optional<std::string> {
          return n++ < 20 ? std::optional<std::string>("a small red circle on a white background")
                          : std::nullopt;
        },
        {.vocab_size = 300}));
    DalleModel transformer(config_.dalle.model, config_.layout(), tokenizer.vocab_size(),
                           config_.dvae.model.vocab_size, Precision::kFloat32);
    transformer->initialize(initial_weights_generator(config_, Stage::kDalle));
    transformer->eval();
    EvaluatedModel model = dvae_alone();
    model.dalle = TrainedDalle{.checkpoint = model.checkpoint,
                               .hash = model.hash,
                               .step = model.step,
                               .config = config_,
                               .tokenizer = std::move(tokenizer),
                               .vae = vae_,
                               .model = transformer};
    return model;
  }

  ordered_json evaluate(EvaluatedModel model, std::vector<EvaluationSuite> suites,
                        bool restart = false, const std::filesystem::path& extractor = {}) const {
    ProcessGroup alone;
    return evaluate_model(model,
                          {.suites = std::move(suites),
                           .limit = 0,
                           .out = out_,
                           .extractor = extractor,
                           .restart = restart},
                          alone, [] {});
  }

  /// What one suite finds.
  ordered_json numbers_of(Suite& suite, EvaluatedModel& model, const EvaluationData& data) {
    ImageGenerator generator(model, work_);
    return suite(model, data, {.generator = generator}, work_).numbers;
  }

  /// All validation samples as one batch.
  static Batch validation_batch(const EvaluationData& data) {
    return data.batch(0, data.size()).value();
  }

  /// Each [3, S, S] uint8.
  std::vector<at::Tensor> images_of(ImageGenerator& generator,
                                    const std::vector<std::string>& captions) const {
    std::vector<at::Tensor> images;
    for (const at::Tensor& codes : generator.codes(captions, "test"))
      images.push_back(image_to_tensor(decode_image(vae_, codes)));
    return images;
  }

  const ExperimentConfig config_ = tiny_experiment();
  const TemporaryDirectory folder_;
  const std::filesystem::path out_ = folder_.path() / "evaluation.json";
  DiscreteVae vae_;
  ProcessGroup group_;
  ChunkedWork work_{group_};
};

inline double value_of(const ordered_json& metric) {
  return metric.at("value").get<double>();
}

}  // namespace dalle
