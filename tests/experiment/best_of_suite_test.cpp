#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "error_of.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/trained/reranker.h"

namespace dalle {
namespace {

constexpr size_t kJudgedImages = 64;

/// Images of which one is exact, and which have the score 0 but for those that are given.
std::vector<JudgedCandidate> images_of_caption(
    size_t exact, std::initializer_list<std::pair<size_t, double>> scores) {
  std::vector<JudgedCandidate> images(kJudgedImages);
  for (JudgedCandidate& image : images) image.exact = false;
  images[exact].exact = true;
  for (const auto& [number, score] : scores) images[number].score = score;
  return images;
}

TEST(BestOfSuite, CountsCaptionsWhoseBestImageIsExact) {
  const std::vector<std::vector<JudgedCandidate>> images = {
      images_of_caption(0, {{0, 1}}),           // the first one, and the best of all
      images_of_caption(3, {{3, 1}, {20, 2}}),  // the best until a higher score comes
      images_of_caption(10, {{10, -1}})};       // never the best
  const auto numbers = best_of_numbers(images);
  EXPECT_EQ(numbers.at("captions"), 3);
  EXPECT_DOUBLE_EQ(numbers.at("clip_score").at("value").get<double>(), 1.0 / 3);
  const std::tuple<int, double, double> expected[] = {{1, 1, 1}, {4, 2, 2}, {16, 2, 3}, {64, 1, 3}};
  for (const auto& [count, exact, possible] : expected) {
    const auto share = [&, n = count](const char* name) {
      return numbers.at(fmt::format("{}_of_{}", name, n)).at("value").get<double>();
    };
    EXPECT_DOUBLE_EQ(share("exact"), exact / 3) << count;
    EXPECT_DOUBLE_EQ(share("possible"), possible / 3) << count;
  }
}

TEST(BestOfSuite, WithoutScenesOnlyRetrievalIsCounted) {
  std::vector<std::vector<JudgedCandidate>> images(2, std::vector<JudgedCandidate>(kJudgedImages));
  images[0][0].retrieved = images[1][2].retrieved = true;
  images[1][2].score = 1;
  const auto numbers = best_of_numbers(images);
  const auto share = [&](const char* name) { return numbers.at(name).at("value").get<double>(); };
  EXPECT_DOUBLE_EQ(share("retrieved_of_1"), 0.5);
  EXPECT_DOUBLE_EQ(share("retrieved_of_4"), 1);
  EXPECT_DOUBLE_EQ(share("retrieved_of_64"), 1);
  EXPECT_EQ(numbers.size(), 6u) << numbers;  // these, captions and clip_score
}

TEST(BestOfSuite, TheLikelihoodMaySelectOtherImages) {
  auto images = images_of_caption(5, {{1, 1}});
  for (JudgedCandidate& image : images) image.likelihood = 0;
  images[5].likelihood = 1;
  images[5].retrieved = true;
  const std::vector<std::vector<JudgedCandidate>> captions(2, images);
  const auto numbers = best_of_numbers(captions);
  const auto share = [&](const char* name) { return numbers.at(name).at("value").get<double>(); };
  EXPECT_EQ(share("exact_of_16"), 0);
  EXPECT_EQ(share("retrieved_of_16"), 0);
  EXPECT_EQ(share("exact_of_4_by_likelihood"), 0);
  EXPECT_EQ(share("exact_of_16_by_likelihood"), 1);
  EXPECT_EQ(share("retrieved_of_16_by_likelihood"), 1);
  EXPECT_FALSE(numbers.contains("exact_of_1_by_likelihood"));  // that of exact_of_1
  // One caption alone is always the most similar one.
  EXPECT_FALSE(best_of_numbers(std::span(captions).first(1)).contains("retrieved_of_16"));
}

class ConstantReranker : public Reranker {
 public:
  explicit ConstantReranker(double score) : score_(score) {}
  std::string name() const override { return "constant"; }

 protected:
  double raw_score(const std::string&, const at::Tensor&, const RgbImage&) override {
    return score_;
  }

 private:
  double score_;
};

TEST(Reranker, RefusesScoresThatAreNotFinite) {
  EXPECT_EQ(ConstantReranker(-3).score("a red circle", {}, {}), -3);
  for (const double score :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    EXPECT_THAT(error_of([&] { ConstantReranker(score).score("a red circle", {}, {}); }),
                testing::HasSubstr("caption \"a red circle\": the score of an image is"));
}

}  // namespace
}  // namespace dalle
