#include "metrics/metric_log.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <csignal>
#include <limits>
#include <regex>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/seconds.h"
#include "core/seeds.h"
#include "data/image/small_png.h"
#include "error_of.h"
#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::json;
using testing::EndsWith;
using testing::HasSubstr;
using Metrics = std::vector<Metric>;

Metrics metrics_of(int64_t step) {
  return {{"loss", 10.0 / static_cast<double>(step), "loss {:.4f}"}, {"grad_norm", 0.84, ""}};
}

MetricLog log_in(const std::filesystem::path& run, std::string_view stage,
                 const MetricPosition& resume) {
  return MetricLog(run / "metrics.jsonl", run / "tensorboard" / stage, stage, resume);
}

/// Writes the steps (begin, end] of a stage, as a run that was stopped and goes on would.
void run(const std::filesystem::path& folder, std::string_view stage, int64_t begin, int64_t end,
         double speed) {
  MetricLog log = log_in(folder, stage, {.step = begin, .lines = 1});
  for (int64_t step = begin + 1; step <= end; ++step)
    log.write(step, metrics_of(step), Metrics{{"ms", speed, ""}});
}

std::string without_times(const std::string& content) {
  std::string kept;
  for (size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string line = content.substr(begin, end - begin);
    kept += line.substr(0, line.find(",\"time\"")) + "\n";
  }
  return kept;
}

TEST(ConsoleLine, HasTheFormOfTheHouse) {
  const Metrics metrics = {{"loss", 6.3121, "loss {:.4f}"},
                           {"loss/text", 7.1, "text {:.2f}"},
                           {"loss/image", 6.2, "image {:.2f}"},
                           {"grad_norm", 0.84, "grad_norm {:.2f}"},
                           {"learning_rate", 4.5e-4, "lr {:.1e}"}};
  const Metrics timings = {{"ms", 812.3, "{:.0f} ms"},
                           {"images_per_s", 163.2, "{:.0f} img/s"},
                           {"matmul_utilization", 41.23, "{:.1f}% of matmul peak"},
                           {"data_percent", 0.1, "data {:.1f}%"}};
  EXPECT_EQ(console_line(1200, metrics, timings),
            "step 1200 | loss 6.3121 text 7.10 image 6.20 | grad_norm 0.84 | lr 4.5e-04 | "
            "812 ms | 163 img/s | 41.2% of matmul peak | data 0.1%");
}

TEST(ConsoleLine, LeavesOutWhatHasNoFormat) {
  EXPECT_EQ(console_line(3, {}, {}), "step 3");
  const Metrics metrics = {{"a", 1, ""}, {"a/b", 2, "b {}"}, {"ab", 3, "ab {}"}};
  EXPECT_EQ(console_line(3, metrics, {}), "step 3 | b 2 | ab 3");
}

TEST(JsonLine, KeepsTheOrderAndPutsTimesApart) {
  const Metrics metrics = {{"zebra", 1.5, ""}, {"ape", 2, ""}, {"loss/text", 0.1, ""}};
  const Metrics timings = {{"ms", 812.25, ""}, {"images_per_s", 163, ""}};
  EXPECT_EQ(json_line("dalle", 1200, metrics, timings),
            R"({"stage":"dalle","step":1200,"zebra":1.5,"ape":2,"loss/text":0.1,)"
            R"("time":{"ms":812.25,"images_per_s":163}})");
  EXPECT_EQ(json_line("dvae", 0, {}, {}), R"({"stage":"dvae","step":0})");
}

TEST(JsonLine, NumbersReadBackToTheSameBits) {
  SeedStream random(1);
  for (int i = 0; i < 10'000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    const json line = json::parse(json_line("s", 1, Metrics{{"x", value, ""}}, {}));
    ASSERT_EQ(std::bit_cast<uint64_t>(line["x"].get<double>()), std::bit_cast<uint64_t>(value));
  }
}

TEST(JsonLine, WhatIsNotFiniteIsNull) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Metrics metrics = {{"a", std::nan(""), ""}, {"b", kInfinity, ""}, {"c", -kInfinity, ""}};
  EXPECT_EQ(json_line("s", 1, metrics, {}), R"({"stage":"s","step":1,"a":null,"b":null,"c":null})");
}

TEST(JsonLine, EscapesNames) {
  const json line = json::parse(json_line("s\"t", 1, Metrics{{"a\"\\b\n", 1, ""}}, {}));
  EXPECT_EQ(line["stage"], "s\"t");
  EXPECT_EQ(line["a\"\\b\n"], 1);
}

TEST(JsonLine, ItsOwnNamesAreTaken) {
  for (const std::string name : {"stage", "step", "time"})
    EXPECT_ANY_THROW(json_line("s", 1, Metrics{{name, 1, ""}}, {})) << name;
}

TEST(MetricLog, WritesALineAStepAndTensorboardsEvents) {
  const TemporaryDirectory folder;
  run(folder / "run", "dvae", 0, 2, 5);
  EXPECT_EQ(std::regex_replace(read_file(folder / "run/metrics.jsonl"),
                               std::regex(",\"unix_s\":[0-9]+\\.?[0-9]*"), ""),
            R"({"stage":"dvae","step":1,"loss":10,"grad_norm":0.84,"time":{"ms":5}})"
            "\n"
            R"({"stage":"dvae","step":2,"loss":5,"grad_norm":0.84,"time":{"ms":5}})"
            "\n");
  const std::string events = read_file(folder / "run/tensorboard/dvae/events.out.tfevents.000000");
  for (const std::string tag : {"loss", "grad_norm", "time/ms"})
    EXPECT_THAT(events, HasSubstr(tag));
}

TEST(MetricLog, ReportsOnTheConsole) {
  const TemporaryDirectory folder;
  testing::internal::CaptureStderr();
  run(folder.path(), "dvae", 0, 1, 5);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("step 1 | loss 10.0000\n"));
}

TEST(MetricLog, ShowsImages) {
  const TemporaryDirectory folder;
  const std::string png = small_png();
  MetricLog log = log_in(folder.path(), "dvae", {});
  log.image(1, "samples", {.file = png, .width = 3, .height = 2});
  log.sync(1);
  EXPECT_THAT(read_file(folder / "tensorboard/dvae/events.out.tfevents.000000"), HasSubstr(png));
}

TEST(MetricLog, AResumedRunEqualsAnUninterruptedOne) {
  const TemporaryDirectory folder;
  run(folder / "whole", "dvae", 0, 20, 5);
  run(folder / "whole", "dalle", 0, 20, 5);
  const std::string whole = without_times(read_file(folder / "whole/metrics.jsonl"));
  for (const int64_t saved : {0, 1, 7, 12}) {
    const std::filesystem::path path = folder / std::to_string(saved);
    run(path, "dvae", 0, 20, 5);
    run(path, "dalle", 0, 12, 6);  // killed at 12, last checkpoint at `saved`
    run(path, "dalle", saved, 20, 7);
    EXPECT_EQ(without_times(read_file(path / "metrics.jsonl")), whole) << saved;
  }
}

TEST(MetricLog, ALineCutShortAnywhereIsDropped) {
  const TemporaryDirectory folder;
  run(folder / "whole", "dvae", 0, 3, 5);
  const std::string whole = read_file(folder / "whole/metrics.jsonl");
  const size_t third_line = whole.rfind('\n', whole.size() - 2) + 1;
  for (size_t size = third_line; size < whole.size(); ++size) {
    write_file_atomically(folder / "metrics.jsonl", whole.substr(0, size));
    run(folder.path(), "dvae", 2, 3, 5);
    ASSERT_EQ(without_times(read_file(folder / "metrics.jsonl")), without_times(whole)) << size;
  }
}

TEST(MetricLog, SaysWhenAStageWasLastReported) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  EXPECT_EQ(last_written(path, "dvae"), std::nullopt);
  run(folder.path(), "dvae", 0, 2, 5);
  const double first = last_written(path, "dvae").value();
  EXPECT_NEAR(first, seconds_since_epoch(), 60);
  EXPECT_EQ(last_written(path, "dalle"), std::nullopt);
  run(folder.path(), "dalle", 0, 1, 5);
  EXPECT_EQ(last_written(path, "dvae"), first);
  EXPECT_GE(last_written(path, "dalle").value(), first);
  // Lines of older builds, and of other programs.
  write_file_atomically(path, "{\"stage\":\"dvae\",\"step\":2,\"time\":{\"ms\":1}}\nno JSON\n[]\n");
  EXPECT_EQ(last_written(path, "dvae"), std::nullopt);
}

TEST(MetricLog, OtherLinesStayByteForByte) {
  const TemporaryDirectory folder;
  const std::string kept =
      "{\"step\": 9,  \"stage\":\"tokenizer\", \"x\": 1.50}\n"
      "{\"stage\":\"dalle\",\"step\":3,\"x\":null}\n"
      "{\"stage\":\"dvae\",\"step\":2,\"eval/loss\":1}\r\n";
  const std::string dropped = "{\"stage\":\"dvae\",\"step\":3}\n";
  write_file_atomically(folder / "metrics.jsonl", dropped + kept + dropped);
  const MetricLog log = log_in(folder.path(), "dvae", {.step = 2, .lines = 1});
  EXPECT_EQ(read_file(folder / "metrics.jsonl"), kept);
}

TEST(MetricLog, OfTheStepThatIsGoneOnFromTheFirstLinesStay) {
  const TemporaryDirectory folder;
  for (const int64_t kept : {0, 1, 2, 3}) {
    std::filesystem::remove(folder / "metrics.jsonl");
    {
      MetricLog log = log_in(folder.path(), "dvae", {});
      log.write(1, Metrics{{"loss", 1, ""}});
      EXPECT_EQ(log.sync(1), 1);
      log.write(2, Metrics{{"loss", 2, ""}});
      log.write(2, Metrics{{"validation", 2, ""}});
      EXPECT_EQ(log.sync(2), 2);
      EXPECT_EQ(log.sync(3), 0);
    }
    MetricLog log = log_in(folder.path(), "dvae", {.step = 2, .lines = kept});
    const std::string content = read_file(folder / "metrics.jsonl");
    EXPECT_EQ(std::ranges::count(content, '\n'), 1 + std::min<int64_t>(kept, 2));
    EXPECT_EQ(content.find("validation") != std::string::npos, kept >= 2);
  }
}

TEST(MetricLog, AnUntouchedFileIsNotWrittenAgain) {
  const TemporaryDirectory folder;
  run(folder.path(), "dvae", 0, 3, 5);
  const auto time = std::filesystem::last_write_time(folder / "metrics.jsonl");
  std::filesystem::last_write_time(folder / "metrics.jsonl", time - std::chrono::hours(1));
  const MetricLog log = log_in(folder.path(), "dvae", {.step = 3, .lines = 1});
  EXPECT_EQ(std::filesystem::last_write_time(folder / "metrics.jsonl"),
            time - std::chrono::hours(1));
}

TEST(MetricLog, NamesALineThatIsNoneOfOurs) {
  const TemporaryDirectory folder;
  const std::string good = "{\"stage\":\"dvae\",\"step\":1}\n";
  for (const std::string bad : {"", "hello", "[1]", "{\"stage\":\"dvae\"}",
                                "{\"stage\":1,\"step\":1}", "{\"stage\":\"dvae\",\"step\":1.5}"}) {
    write_file_atomically(folder / "metrics.jsonl", good + bad + "\n" + good);
    EXPECT_THAT(error_of([&] { log_in(folder.path(), "dvae", {}); }),
                EndsWith(fmt::format("metrics.jsonl:2: found {:?}, expected {{\"stage\": ..., "
                                     "\"step\": ..., ...}}",
                                     bad)));
    EXPECT_EQ(read_file(folder / "metrics.jsonl"), good + bad + "\n" + good);
  }
}

TEST(MetricLog, SaysWhichFileCannotBeWritten) {
  const TemporaryDirectory folder;
  std::filesystem::create_directory(folder / "metrics.jsonl");
  EXPECT_THAT(error_of([&] { log_in(folder.path(), "dvae", {}); }),
              HasSubstr("metrics.jsonl: expected a file, found a directory"));
}

TEST(MetricLog, SaysThatTheDiskIsFull) {
  const TemporaryDirectory folder;
  const pid_t child = ::fork();
  if (child == 0) {  // a limit on the file's size stands in for a full disk
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{2000, 2000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    MetricLog log = log_in(folder.path(), "a-stage-with-a-name-that-fills-the-file", {});
    const std::string message = error_of([&] {
      for (int64_t step = 1; step < 1000; ++step) log.write(step, {});
    });
    ::_exit(message.find("metrics.jsonl: cannot write: File too large") == std::string::npos);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace dalle
