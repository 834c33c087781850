#include "experiment/trained/hub_export.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/files.h"
#include "experiment/trained/model_card.h"
#include "model_evaluation_fixture.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

std::vector<std::vector<std::string>> names_of(const std::vector<NamedTensors>& shards) {
  std::vector<std::vector<std::string>> names;
  for (const NamedTensors& shard : shards) {
    names.emplace_back();
    for (const auto& [name, tensor] : shard) names.back().push_back(name);
  }
  return names;
}

TEST(HubExport, DividesWeightsInOrderIntoFilesOfALargestSize) {
  const NamedTensors tensors = {{"a", torch::zeros(2)},
                                {"b", torch::zeros(1)},
                                {"large", torch::zeros(9)},
                                {"c", torch::zeros(2)},
                                {"d", torch::zeros(2)}};
  EXPECT_THAT(names_of(divide_into_shards(tensors, 1'000)),
              ElementsAre(ElementsAre("a", "b", "large", "c", "d")));
  EXPECT_THAT(
      names_of(divide_into_shards(tensors, 12)),
      ElementsAre(ElementsAre("a", "b"), ElementsAre("large"), ElementsAre("c"), ElementsAre("d")));
  EXPECT_THAT(divide_into_shards({}, 12), IsEmpty());
}

class HubExportTest : public ModelEvaluationTest {
 protected:
  std::string card(const TrainedDalle& dalle) const { return model_card(dalle, run_); }

  const TemporaryDirectory folder_of_run_;
  const RunPaths run_{folder_of_run_.path()};
};

TEST_F(HubExportTest, WritesTheWeightsUnchanged) {
  EvaluatedModel model = with_transformer();
  const TemporaryDirectory out;
  write_hub_files(*model.dalle, run_, out.path(), kHubShardBytes);
  NamedTensors expected;
  for (const auto& [name, tensor] : weights_of(*model.dalle->model))
    expected.emplace_back("transformer." + name, tensor);
  for (const auto& [name, tensor] : weights_of(*model.dalle->vae))
    expected.emplace_back("dvae." + name, tensor);
  EXPECT_EQ(read_file(out / "model.safetensors"), safetensors_bytes(expected, {{"format", "pt"}}));
  EXPECT_EQ(read_file(out / "tokenizer.model"), model.dalle->tokenizer.model());
  const auto config = ordered_json::parse(read_file(out / "config.json"));
  EXPECT_EQ(config.at("transformer").at("attention"), ordered_json({"conv"}));
  EXPECT_EQ(config.at("transformer").at("text_vocab_size"), model.dalle->tokenizer.vocab_size());
  EXPECT_EQ(config.at("dvae").at("post_gain"), 1.0 / 9);
}

TEST_F(HubExportTest, TheCardOfAModelWithoutNumbersHasNone) {
  EvaluatedModel model = with_transformer();
  model.dalle->config.data.kind = DatasetKind::kFolder;
  model.dalle->config.data.path = "/home/somebody/photos/";
  const std::string text = card(*model.dalle);
  EXPECT_THAT(text, StartsWith("---\nlicense: other\n"));
  EXPECT_THAT(text, AllOf(HasSubstr("| data | folder photos |"), HasSubstr("path: photos\n"),
                          HasSubstr("| steps | transformer: 1 of "), Not(HasSubstr("somebody")),
                          Not(HasSubstr("## Evaluation")), Not(HasSubstr("model-index"))));
}

TEST_F(HubExportTest, TheCardHasTheNumbersOfThisCheckpoint) {
  EvaluatedModel model = with_transformer();
  model.dalle->step = 10;
  write_file_atomically(run_.metrics(),
                        R"({"stage":"dvae","step":30,"validation":1.5,"psnr_hard":31.25})"
                        "\n"
                        R"({"stage":"dvae","step":40,"validation":1.5,"psnr_hard":30.75})"
                        "\n"
                        R"({"stage":"dalle","step":10,"validation":0.5,"validation/image":0.375})"
                        "\n"
                        R"({"stage":"dalle","step":20,"validation":7.5})"
                        "\n");
  ordered_json evaluation{
      {"model", {{"manifest", model.hash}}},
      {"suites",
       {{"shapes", {{"exact", {{"value", 0.9}, {"low", 0.8}, {"high", 0.95}}}, {"images", 40}}}}}};
  write_file_atomically(run_.evaluation(), evaluation.dump());
  const std::string text = card(*model.dalle);
  EXPECT_THAT(
      text,
      AllOf(HasSubstr("| dVAE, PSNR | 31.25 dB |"), HasSubstr("| 0.375 nats per token |"),
            HasSubstr("| shapes, exact | 90.0 % | 80.0 to 95.0 % |"), HasSubstr("model-index:"),
            HasSubstr("value: 0.9"), HasSubstr("; dVAE: 30 of "), Not(HasSubstr("7.5"))));
  model.dalle->config.dalle.dvae_checkpoint = DvaeCheckpoint::kLast;
  EXPECT_THAT(card(*model.dalle), HasSubstr("| dVAE, PSNR | 30.75 dB |"));
  model.dalle->config.from.checkpoint = "/home/somebody/runs/a/checkpoints/dalle/step-00040000";
  EXPECT_THAT(card(*model.dalle),
              AllOf(HasSubstr("| fine-tuned from | a, step 40000 |"),
                    HasSubstr("checkpoint: a/checkpoints/dalle/step-00040000\n"),
                    HasSubstr("dVAE: not trained in this run"), Not(HasSubstr("somebody")),
                    Not(HasSubstr("dVAE, PSNR"))));
  evaluation["model"]["manifest"] = "another checkpoint's";
  write_file_atomically(run_.evaluation(), evaluation.dump());
  EXPECT_THAT(card(*model.dalle), Not(HasSubstr("90.0 %")));
  write_file_atomically(run_.evaluation(), "{}");
  EXPECT_THROW(card(*model.dalle), Error);
}

}  // namespace
}  // namespace dalle
