// An evaluation finds the same on any number of ranks and threads, and after any interruption.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "error_of.h"
#include "experiment/report/run_report.h"
#include "model_evaluation_fixture.h"
#include "ranks.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// What an evaluation writes: the results file and the images, by name.
using WrittenFiles = std::map<std::string, std::string>;

class EvaluationRanksTest : public ModelEvaluationTest {
 protected:
  /// A model for which all suites but best_of can be run; two objects, so that there are relations.
  EvaluatedModel model() const {
    EvaluatedModel model = with_transformer();
    model.config.data.shapes.hold_out = true;
    model.config.data.shapes.max_objects = 2;
    model.config.dalle.train.batch_size = 4;  // of ten images: three chunks
    return model;
  }

  ModelEvaluationOptions options() const {
    return {.suites = {}, .limit = 0, .out = out_, .extractor = {}, .restart = false};
  }

  /// Evaluates on this many ranks, each with some threads.
  void evaluate_on(
      int64_t ranks, int threads, const CheckStop& check_stop = [] {}) const {
    on_ranks(ranks, [&](ProcessGroup& group) {
      at::set_num_threads(threads);
      EvaluatedModel own = model();
      try {
        evaluate_model(own, options(), group, check_stop);
      } catch (const StopRequested&) {
        EXPECT_TRUE(fs::exists(partial_results(out_)));
      }
    });
  }

  WrittenFiles written() const {
    WrittenFiles files = {{"results", read_file(out_)}};
    for (const auto& entry : fs::directory_iterator(images_of_results(out_)))
      files[entry.path().filename()] = read_file(entry.path());
    return files;
  }

  void remove_results() const {
    fs::remove(out_);
    fs::remove_all(images_of_results(out_));
  }
};

TEST_F(EvaluationRanksTest, AnyNumberOfRanksAndThreadsFindsTheSameBytes) {
  evaluate_on(1, 1);
  const WrittenFiles expected = written();
  const auto suites = ordered_json::parse(expected.at("results")).at("suites");
  for (const auto& [suite, name] : enum_names(EvaluationSuite{}))
    EXPECT_EQ(suites.contains(name), suite != EvaluationSuite::kBestOf) << name;
  for (const auto& [ranks, threads] : {std::pair{1, 3}, std::pair{2, 1}, std::pair{3, 2}}) {
    remove_results();
    evaluate_on(ranks, threads);
    EXPECT_EQ(written(), expected) << ranks << " ranks, " << threads << " threads each";
    EXPECT_FALSE(fs::exists(partial_results(out_)));
  }
}

TEST_F(EvaluationRanksTest, AStoppedEvaluationFindsTheSameAfterAnyNumberOfStops) {
  std::atomic<int> calls = 0;
  evaluate_on(1, 1, [&] { ++calls; });
  const WrittenFiles expected = written();
  const int all = calls;
  // Each attempt is stopped after a fifth of the work, and the next one has more or fewer ranks.
  remove_results();
  int attempts = 0;
  do {
    calls = 0;
    evaluate_on(1 + attempts % 3, 1, [&] {
      if (++calls > all / 5) throw StopRequested();
    });
    ASSERT_LT(++attempts, 40) << "the work does not advance";
  } while (fs::exists(partial_results(out_)));
  EXPECT_GT(attempts, 3);
  EXPECT_EQ(written(), expected);
}

TEST_F(EvaluationRanksTest, AnotherModelIgnoresWhatIsUnfinished) {
  ProcessGroup alone;
  const auto stop_in = [&](EvaluatedModel evaluated, int at) {
    std::atomic<int> calls = 0;
    at::set_num_threads(1);
    EXPECT_THROW(evaluate_model(evaluated, options(), alone,
                                [&] {
                                  if (++calls == at) throw StopRequested();
                                }),
                 StopRequested);
  };
  const auto parts = [&] {
    return std::ranges::distance(fs::recursive_directory_iterator(partial_results(out_)),
                                 fs::recursive_directory_iterator());
  };
  stop_in(model(), 3);
  const auto before = parts();
  EvaluatedModel other = model();
  other.hash = "def";
  stop_in(std::move(other), 1);
  EXPECT_LT(parts(), before) << "only its identity";
}

TEST_F(EvaluationRanksTest, ARestartThatIsStoppedContinuesWithoutRestart) {
  ProcessGroup alone;
  EvaluatedModel evaluated = model();
  ModelEvaluationOptions two = options();
  two.suites = {EvaluationSuite::kCodes, EvaluationSuite::kLikelihood};
  const auto expected = evaluate_model(evaluated, two, alone, [] {});
  ModelEvaluationOptions restart = two;
  restart.restart = true;
  std::atomic<int> calls = 0;
  at::set_num_threads(1);
  EXPECT_THROW(evaluate_model(evaluated, restart, alone,
                              [&] {
                                if (++calls == 2) throw StopRequested();
                              }),
               StopRequested);
  EXPECT_TRUE(ordered_json::parse(read_file(out_)).at("suites").empty());
  EXPECT_EQ(evaluate_model(evaluated, two, alone, [] {}), expected);
}

TEST_F(EvaluationRanksTest, AnUnfinishedSuiteSurvivesTheEvaluationOfOthers) {
  ProcessGroup alone;
  EvaluatedModel evaluated = model();
  const auto evaluate_suite = [&](EvaluationSuite suite, int stop_at) {
    ModelEvaluationOptions one = options();
    one.suites = {suite};
    at::set_num_threads(1);
    std::atomic<int> calls = 0;
    try {
      evaluate_model(evaluated, one, alone, [&] {
        if (++calls == stop_at) throw StopRequested();
      });
    } catch (const StopRequested&) {
    }
    return calls.load();
  };
  EXPECT_EQ(evaluate_suite(EvaluationSuite::kLikelihood, 3), 3);
  EXPECT_EQ(evaluate_suite(EvaluationSuite::kCodes, 0), 3);
  EXPECT_TRUE(fs::exists(partial_results(out_)));
  EXPECT_EQ(evaluate_suite(EvaluationSuite::kLikelihood, 0), 1) << "two of three batches are done";
  EXPECT_FALSE(fs::exists(partial_results(out_)));
}

TEST_F(EvaluationRanksTest, EachRankNeedsAnImage) {
  on_ranks(3, [&](ProcessGroup& group) {
    EvaluatedModel own = model();
    ModelEvaluationOptions two = options();
    two.limit = 2;
    EXPECT_THAT(
        error_of([&] { evaluate_model(own, two, group, [] {}); }),
        testing::HasSubstr("3 ranks: found 2 validation images, expected at least one for each"));
  });
}

}  // namespace
}  // namespace dalle
