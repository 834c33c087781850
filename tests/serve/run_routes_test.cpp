#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "route_answers.h"
#include "serve/api_routes.h"
#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class RunRoutesTest : public testing::Test {
 protected:
  RunRoutesTest() {
    add_run_routes(routes_, folder_.path());
    write("mine/metrics.jsonl", R"({"stage":"dvae","step":5,"loss":3,"time":{"unix_s":1}}
{"stage":"dvae","step":10,"loss":2,"time":{"unix_s":2}}
)");
    write("mine/samples/dvae/reconstructions-00000005.png", "five");
    write("mine/samples/dvae/reconstructions-00000010.png", "ten");
  }

  void write(const std::string& name, std::string_view content) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  void append(const std::string& name, std::string_view content) const {
    std::ofstream(folder_ / name, std::ios::binary | std::ios::app) << content;
  }

  json run(const std::string& id = "mine") const {
    const HttpResponse response = answer_to(routes_, "/v1/runs/" + id);
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    const json list = json::parse(answer_to(routes_, "/v1/runs").body);
    for (const json& one : list["data"]) names.push_back(one["id"]);
    return names;
  }

  const TemporaryDirectory folder_;
  Routes routes_;
};

TEST_F(RunRoutesTest, RunsAreListedTheOneThatWroteLastFirst) {
  write("older/metrics.jsonl", "");
  write("not-a-run/notes.txt", "");
  write("a file", "");
  fs::last_write_time(folder_ / "older/metrics.jsonl",
                      fs::file_time_type::clock::now() - std::chrono::hours(1));
  write("begun/config.yaml", "");
  EXPECT_THAT(names(), ElementsAre("mine", "older", "begun"));
}

TEST_F(RunRoutesTest, AFolderThatDoesNotExistYetHasNoRuns) {
  fs::remove_all(folder_.path());
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(RunRoutesTest, ARunHasCurvesAndImagesByStep) {
  const json stage = run()["stages"].at(0);
  EXPECT_EQ(stage["stage"], "dvae");
  EXPECT_EQ(stage["step"], 10);
  const json chart = stage["charts"].at(0);
  EXPECT_EQ(chart["name"], "loss");
  EXPECT_EQ(chart["series"].at(0)["name"], "training");
  EXPECT_EQ(chart["series"].at(0)["points"], json::parse("[[5,3],[10,2]]"));
  EXPECT_THAT(chart["svg"].get<std::string>(), HasSubstr("<polyline"));
  const json images = stage["images"].at(0);
  EXPECT_EQ(images["kind"], "reconstructions");
  EXPECT_EQ(images["samples"].at(1)["step"], 10);
  const std::string file = images["samples"].at(0)["file"];
  const HttpResponse image = answer_to(routes_, "/v1/runs/mine/images/dvae/" + file);
  EXPECT_EQ(image.content_type, "image/png");
  EXPECT_EQ(image.body, "five");
}

TEST_F(RunRoutesTest, ChartsHaveNoStylesThatThePagesPolicyRefuses) {
  EXPECT_THAT(answer_to(routes_, "/v1/runs/mine").body, testing::Not(HasSubstr("style=")));
}

TEST_F(RunRoutesTest, WhatTrainingAddsIsShownOnceItIsWhole) {
  run();
  append("mine/metrics.jsonl", R"({"stage":"dvae","step":15,"loss":1,"time":{"uni)");
  EXPECT_EQ(run()["stages"][0]["step"], 10);
  append("mine/metrics.jsonl", "x_s\":3}}\n");
  EXPECT_EQ(run()["stages"][0]["step"], 15);
  write("mine/samples/dalle/samples-00000005.png.part", "half");
  EXPECT_EQ(run()["stages"].size(), 1U);
  write("mine/samples/dalle/samples-00000005.png", "whole");
  EXPECT_EQ(run()["stages"].at(1)["images"][0]["samples"].size(), 1U);
}

TEST_F(RunRoutesTest, LinesThatAResumedRunDropsAreGone) {
  run();
  write_file_atomically(folder_ / "mine/metrics.jsonl",
                        "{\"stage\":\"dvae\",\"step\":5,\"loss\":3,\"time\":{\"unix_s\":1}}\n");
  EXPECT_EQ(run()["stages"][0]["step"], 5);
  append("mine/metrics.jsonl", "{\"stage\":\"dvae\",\"step\":10,\"loss\":9}\n");
  const json points = json::parse("[[5,3],[10,9]]");
  EXPECT_EQ(run()["stages"][0]["charts"][0]["series"][0]["points"], points);
}

TEST_F(RunRoutesTest, InvalidLinesAndNamesDoNotBreakARun) {
  append("mine/metrics.jsonl",
         "{half\n\n[]\n\xff\xfe\n{\"stage\":7}\n{\"stage\":\"dvae\",\"step\":\"x\"}\n"
         "{\"stage\":\"dvae\",\"step\":20,\"loss\":null,\"<b>\":1}\n");
  for (const char* name : {"reconstructions.png", "-5.png", "reconstructions--5.png", "x-1e3.png",
                           "x-99999999999999999999.png", "\xff-5.png"})
    write(std::string("mine/samples/dvae/") + name, "");
  write("mine/config.yaml", "][");
  write("\xff\xfe/metrics.jsonl", "");
  const json shown = run();
  EXPECT_EQ(shown["stages"][0]["step"], 20);
  EXPECT_EQ(shown["captions"].size(), 0U);
  EXPECT_THAT(names(), ElementsAre("mine"));
}

TEST_F(RunRoutesTest, ACurveWithoutValuesIsLeftOut) {
  write("mine/metrics.jsonl", "{\"stage\":\"dvae\",\"step\":1,\"loss\":null}\n");
  EXPECT_TRUE(run()["stages"][0]["charts"].empty());
}

TEST_F(RunRoutesTest, AnswersAreSentAgainOnlyAfterAChange) {
  for (const std::string path :
       {"/v1/runs", "/v1/runs/mine", "/v1/runs/mine/images/dvae/reconstructions-00000005.png"}) {
    const std::string etag = header_of(answer_to(routes_, path), "etag");
    EXPECT_EQ(answer_to(routes_, path, etag).status, 304) << path;
  }
  const std::string etag = header_of(answer_to(routes_, "/v1/runs/mine"), "etag");
  append("mine/metrics.jsonl", "{\"stage\":\"dvae\",\"step\":15,\"loss\":1}\n");
  EXPECT_EQ(answer_to(routes_, "/v1/runs/mine", etag).status, 200);
}

TEST_F(RunRoutesTest, NothingElseOfTheDiskCanBeNamed) {
  write("secret.png", "secret");
  write("mine/secret-5.png", "secret");
  write("mine/checkpoints/secret-5.png", "secret");
  for (const std::string path :
       {"", "..", ".", "../mine", "mine/", "mine/..", "mine/images", "mine/images/dvae",
        "mine/images/dvae/", "mine/images/dvae/../../secret-5.png", "mine/secret-5.png",
        "mine/images/../secret-5.png", "mine/images/../checkpoints/secret-5.png",
        "mine/images//secret-5.png", "mine/metrics.jsonl", "mine/config.yaml", "secret.png",
        "mine/report.html"}) {
    const HttpResponse response = answer_to(routes_, "/v1/runs/" + path);
    EXPECT_EQ(response.status, 404) << path;
    EXPECT_TRUE(json::parse(response.body).contains("error")) << path;
  }
}

TEST_F(RunRoutesTest, TheReportIsShownInASandbox) {
  EXPECT_EQ(run()["has_report"], false);
  write("mine/report.html", "<h1>report</h1>");
  EXPECT_EQ(run()["has_report"], true);
  const HttpResponse response = answer_to(routes_, "/v1/runs/mine/report.html");
  EXPECT_EQ(response.body, "<h1>report</h1>");
  EXPECT_THAT(header_of(response, "content-security-policy"), HasSubstr("sandbox;"));
}

TEST_F(RunRoutesTest, CaptionsOfTheSampleImagesAreThoseOfTheConfig) {
  const std::string config = read_file("tests/tools/tiny.yaml");
  write("mine/config.yaml", config);
  EXPECT_THAT(run()["captions"].get<std::vector<std::string>>(), ElementsAre("a red circle"));
}

TEST_F(RunRoutesTest, FilesThatCannotBeReadAreAnError) {
  fs::remove(folder_ / "mine/metrics.jsonl");
  fs::create_directory(folder_ / "mine/metrics.jsonl");
  const HttpResponse response = answer_to(routes_, "/v1/runs/mine");
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, testing::Not(HasSubstr(folder_.path().string())));
}

}  // namespace
}  // namespace dalle
