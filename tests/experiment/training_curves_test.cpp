#include "experiment/report/training_curves.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::ElementsAre;

class TrainingCurvesTest : public testing::Test {
 protected:
  std::vector<StageCurves> curves_of(const std::string& lines) const {
    write_file_atomically(file_, lines);
    return read_training_curves(file_);
  }

  const TemporaryDirectory folder_;
  const std::filesystem::path file_ = folder_.path() / "metrics.jsonl";
};

std::vector<double> values_of(const ChartSeries& series) {
  std::vector<double> values;
  for (const ChartPoint& point : series.points) values.push_back(point.y);
  return values;
}

TEST_F(TrainingCurvesTest, TrainingAndValidationShareAChart) {
  const auto stages = curves_of(
      R"({"stage":"dvae","step":5,"loss":3,"loss/kl":1,"lr":0.1,"time":{"step_ms":7}}
{"stage":"dvae","step":10,"loss":2,"loss/kl":2,"lr":0.2,"time":{"step_ms":8}}
{"stage":"dvae","step":10,"validation":2.5,"validation/kl":1.5,"psnr_soft":20,"psnr_hard":19}
{"stage":"dalle","step":5,"loss":9}
)");
  ASSERT_EQ(stages.size(), 2U);
  EXPECT_EQ(stages[0].stage, "dvae");
  EXPECT_EQ(stages[1].stage, "dalle");
  std::vector<std::string> names;
  for (const CurveGroup& group : stages[0].groups) names.push_back(group.name);
  EXPECT_THAT(names, ElementsAre("loss", "KL divergence, nats per position", "learning rate",
                                 "PSNR on validation images, dB"));
  const std::vector<ChartSeries>& loss = stages[0].groups[0].series;
  ASSERT_EQ(loss.size(), 2U);
  EXPECT_EQ(loss[0].name, "training");
  EXPECT_THAT(values_of(loss[0]), ElementsAre(3, 2));
  EXPECT_EQ(loss[1].name, "validation");
  EXPECT_EQ(loss[1].points[0].x, 10);
  EXPECT_EQ(stages[0].groups[3].series.size(), 2U);
}

TEST_F(TrainingCurvesTest, NewMetricsHaveAChartOfTheirOwn) {
  const auto stages = curves_of("{\"stage\":\"dalle\",\"step\":1,\"codes_lost\":4}\n");
  ASSERT_EQ(stages.at(0).groups.size(), 1U);
  EXPECT_EQ(stages[0].groups[0].name, "codes_lost");
}

TEST_F(TrainingCurvesTest, LongCurvesBecomeMeansAndTheLastValue) {
  std::string lines;
  for (int step = 0; step < 599; ++step)
    lines += fmt::format("{{\"stage\":\"dalle\",\"step\":{},\"loss\":{}}}\n", step, step % 2);
  std::vector<ChartPoint> points = curves_of(lines).at(0).groups.at(0).series.at(0).points;
  ASSERT_EQ(points.size(), 300U);
  EXPECT_EQ(points.back().x, 598);
  EXPECT_EQ(points.back().y, 0);
  EXPECT_DOUBLE_EQ(points[1].x, 2.5);
  points.pop_back();
  for (const ChartPoint& point : points) EXPECT_DOUBLE_EQ(point.y, 0.5);
}

TEST_F(TrainingCurvesTest, SkipsWhatIsNotANumberOrNotComplete) {
  const auto stages = curves_of(
      "{\"stage\":\"dalle\",\"step\":1,\"loss\":null,\"lr\":1}\nnot JSON\n[1]\n"
      "{\"stage\":\"dalle\",\"step\":2,\"lo");
  ASSERT_EQ(stages.size(), 1U);
  ASSERT_EQ(stages[0].groups.size(), 1U);
  EXPECT_EQ(stages[0].groups[0].name, "learning rate");
}

TEST_F(TrainingCurvesTest, AreNoneWithoutAFile) {
  EXPECT_TRUE(read_training_curves(folder_ / "missing.jsonl").empty());
}

TEST_F(TrainingCurvesTest, GrowingCurvesAreThoseOfTheFileAfterEachChange) {
  GrowingCurves growing(file_);
  EXPECT_TRUE(growing.read().empty());
  const std::string lines[] = {"{\"stage\":\"dvae\",\"step\":5,\"loss\":3,\"lr\":1}\n",
                               "{\"stage\":\"dvae\",\"step\":10,\"loss\":2}\n{\"stage\":\"dv",
                               "ae\",\"step\":15,\"loss\":1}\n", "not JSON\n",
                               "{\"stage\":\"dalle\",\"step\":5,\"loss\":9}\n"};
  const auto expect_equal = [&] {
    const auto expected = read_training_curves(file_), shown = growing.read();
    ASSERT_EQ(shown.size(), expected.size());
    for (size_t stage = 0; stage < shown.size(); ++stage) {
      EXPECT_EQ(shown[stage].stage, expected[stage].stage);
      ASSERT_EQ(shown[stage].groups.size(), expected[stage].groups.size());
      for (size_t group = 0; group < shown[stage].groups.size(); ++group) {
        EXPECT_EQ(shown[stage].groups[group].name, expected[stage].groups[group].name);
        EXPECT_EQ(values_of(shown[stage].groups[group].series.at(0)),
                  values_of(expected[stage].groups[group].series.at(0)));
      }
    }
  };
  std::string content;
  for (const std::string& line : lines) {
    write_file_atomically(file_, content += line);
    expect_equal();
  }
  // A run that resumes from an earlier step drops lines, and may have written others by now.
  write_file_atomically(file_, lines[0] + lines[4] + lines[4] + lines[4] + lines[4] + lines[4]);
  expect_equal();
  std::filesystem::remove(file_);
  EXPECT_TRUE(growing.read().empty());
}

}  // namespace
}  // namespace dalle
