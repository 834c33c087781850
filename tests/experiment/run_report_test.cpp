#include "experiment/report/run_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base64.h"
#include "core/files.h"
#include "error_of.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;

class RunReportTest : public testing::Test {
 protected:
  RunReportTest() {
    config_.dvae.model.groups = 3;  // a grid of 8 x 8
    make_directories(run_.samples() / "dalle");
    write_file_atomically(run_.config(), "name: demo\n");
    write_file_atomically(run_.metrics(),
                          "{\"stage\":\"dalle\",\"step\":5,\"loss\":3.25}\n"
                          "{\"stage\":\"dalle\",\"step\":10,\"loss\":2.125}\n");
    write_file_atomically(run_.samples() / "dalle" / "samples-00000005.png", "first");
    write_file_atomically(run_.samples() / "dalle" / "samples-00000010.png", "second");
  }

  ordered_json results() const {
    std::vector<double> by_position(64, 2.0);
    by_position[9] = 7.5;
    return {{"model",
             {{"checkpoint", "step-00000010"},
              {"manifest", "0123abcd"},
              {"step", 10},
              {"validation_images", 10},
              {"dalle", "0.2.0"}}},
            {"suites",
             {{"codes",
               {{"images", 10},
                {"perplexity", {{"value", 123.5}}},
                {"flip_rate", {{"value", 0.25}, {"low", 0.125}, {"high", 0.375}}},
                {"entropy_bits_by_position", by_position},
                {"counts_by_rank", {900, 30, 1, 0}}}},
              {"shapes",
               {{"images", 40},
                {"exact", {{"value", 0.9}, {"low", 0.8}, {"high", 0.95}}},
                {"ceiling_exact", {{"value", 1.0}, {"low", 0.9}, {"high", 1.0}}},
                {"examples",
                 {{{"caption", "<script>alert('a red circle')</script>"},
                   {"exact", false},
                   {"wrong", {"color", "1 object missing"}},
                   {"file", "shapes-01.png"}}}}}}}},
            {"command", "dalle-eval --model 'my run'"}};
  }

  std::string report(const ordered_json& content) const {
    write_file_atomically(run_.evaluation(), content.dump());
    write_report(config_, run_, run_.evaluation());
    return read_file(run_.root / "report.html");
  }

  ExperimentConfig config_ = shapes_experiment();
  const TemporaryDirectory folder_;
  const RunPaths run_{folder_.path()};
};

TEST_F(RunReportTest, ShowsNumbersWithIntervalsAndDefinitions) {
  const std::string html = report(results());
  EXPECT_THAT(html, HasSubstr("<td>flip rate</td><td class=\"number\">25.0 %</td>"
                              "<td class=\"number\">12.5 to 37.5 %</td>"
                              "<td>share of positions whose code changes"));
  EXPECT_THAT(html, HasSubstr("<td>perplexity</td><td class=\"number\">123.5</td>"
                              "<td class=\"number\"></td>"));
  EXPECT_THAT(html, HasSubstr("<title>row 2, column 2: 7.5</title>"));
  EXPECT_THAT(html, HasSubstr("most frequent first"));
  for (const char* fact : {"step-00000010", "0123abcd", "shapes, 32 x 32 pixels"})
    EXPECT_THAT(html, HasSubstr(fact));
  EXPECT_THAT(html, HasSubstr("dalle-eval --model &#39;my run&#39;"));
  EXPECT_THAT(html, HasSubstr("dalle-train --config " + run_.config().string() + " --run-dir " +
                              run_.root.string() + "-again"));
}

TEST_F(RunReportTest, ShowsCurvesAndTheLastSamples) {
  const std::string html = report(results());
  EXPECT_THAT(html, HasSubstr("Training: dalle"));
  EXPECT_THAT(html, HasSubstr("<td class=\"number\">10</td><td class=\"number\">2.125</td>"));
  EXPECT_THAT(html, HasSubstr(base64("second")));
  EXPECT_THAT(html, Not(HasSubstr(base64("first"))));
}

TEST_F(RunReportTest, EscapesCaptionsAndShowsTheirImages) {
  make_directories(images_of_results(run_.evaluation()));
  write_file_atomically(images_of_results(run_.evaluation()) / "shapes-01.png", "generated");
  const std::string html = report(results());
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;a red circle&#39;)&lt;/script&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, HasSubstr(base64("generated")));
  EXPECT_THAT(html, HasSubstr("wrong: color, 1 object missing"));
  EXPECT_THAT(html, Not(HasSubstr("image not found")));
}

TEST_F(RunReportTest, SaysWhichImagesAreGone) {
  EXPECT_THAT(report(results()), HasSubstr("image not found"));
}

TEST_F(RunReportTest, ShowsTheLevelsThatWereJudged) {
  ordered_json content = results();
  content["suites"]["levels"] = {
      {"L2_images", 40},
      {"L2_exact", {{"value", 0.75}, {"low", 0.6}, {"high", 0.85}}},
      {"L2_ceiling_exact", {{"value", 1.0}, {"low", 0.9}, {"high", 1.0}}}};
  const std::string html = report(content);
  EXPECT_THAT(html, HasSubstr("Levels of the benchmark"));
  EXPECT_THAT(html, HasSubstr("<td>L2: exact</td><td class=\"number\">75.0 %</td>"));
  EXPECT_THAT(html, HasSubstr("by level of the benchmark"));
}

TEST_F(RunReportTest, ShowsDistancesNotesAndClosestPairs) {
  make_directories(images_of_results(run_.evaluation()));
  write_file_atomically(images_of_results(run_.evaluation()) / "memorization-pixels-1.png", "copy");
  ordered_json content = results();
  content["suites"]["frechet"] = {
      {"images", 40},
      {"net-0123456789ab_frechet", {{"value", 12.5}}},
      {"net-0123456789ab_frechet_training", {{"value", 2.5}}},
      {"net-0123456789ab_precision", {{"value", 0.5}, {"low", 0.4}, {"high", 0.6}}},
      {"net-0123456789ab_precision_training", {{"value", 0.75}, {"low", 0.7}, {"high", 0.8}}},
      {"dimensions", {{"net-0123456789ab", 32}}},
      {"notes", {"40 images are few"}},
      {"blur",
       {{{"space", "net-0123456789ab"}, {"radius", 0}, {"generated", 12.5}, {"training", 2.5}},
        {{"space", "net-0123456789ab"}, {"radius", 1}, {"generated", 11}, {"training", 2}}}}};
  content["suites"]["memorization"] = {{"images", 40},
                                       {"pixels_nearer", {{"value", 0.25}}},
                                       {"closest",
                                        {{{"space", "pixels"},
                                          {"caption", "a <b>cat</b>"},
                                          {"distance", 0.125},
                                          {"key", "train 7"},
                                          {"generated", "memorization-pixels-1.png"},
                                          {"training", "memorization-pixels-1-training.png"}}}}};
  const std::string html = report(content);
  EXPECT_THAT(html, HasSubstr("<td>net-0123456789ab: Fréchet distance</td>"
                              "<td class=\"number\">12.5</td>"));
  EXPECT_THAT(html, HasSubstr("net-0123456789ab: Fréchet distance, training images"));
  EXPECT_THAT(html, HasSubstr("40 images are few"));
  EXPECT_THAT(html, HasSubstr("blur radius, pixels"));
  EXPECT_THAT(html, HasSubstr("The mark is the same for training images"));
  EXPECT_THAT(html, HasSubstr("<td>pixels: nearer than validation</td>"));
  EXPECT_THAT(html, HasSubstr(base64("copy")));
  EXPECT_THAT(html, HasSubstr("pixels: 0.125 from train 7; a &lt;b&gt;cat&lt;/b&gt;"));
}

// A results file from elsewhere must not make the report contain other files.
TEST_F(RunReportTest, ReadsImagesOnlyFromTheirFolder) {
  write_file_atomically(run_.root / "secret.png", "secret");
  ordered_json content = results();
  content["suites"]["shapes"]["examples"][0]["file"] = (run_.root / "secret.png").string();
  EXPECT_THAT(report(content), Not(HasSubstr(base64("secret"))));
}

TEST_F(RunReportTest, NeedsNoEvaluation) {
  write_report(config_, run_, run_.evaluation());
  const std::string html = read_file(run_.root / "report.html");
  EXPECT_THAT(html, HasSubstr("Training: dalle"));
  EXPECT_THAT(html, Not(HasSubstr("Codes")));
}

TEST_F(RunReportTest, RejectsWhatIsNotAResultsFile) {
  EXPECT_THAT(error_of([&] { report(ordered_json::array()); }), HasSubstr("not a results file"));
}

TEST(ReportOfResultsTest, IsNextToThem) {
  EXPECT_EQ(report_of_results("runs/x/evaluation.json"), "runs/x/report.html");
  EXPECT_EQ(report_of_results("early.json"), "early.html");
  EXPECT_EQ(images_of_results("runs/x/evaluation.json"), "runs/x/evaluation_images");
}

}  // namespace
}  // namespace dalle
