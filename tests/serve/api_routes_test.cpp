#include "serve/api_routes.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <torch/types.h>

#include "core/base64.h"
#include "data/image/image.h"
#include "sample/decode_image.h"
#include "sample/generate_codes.h"
#include "serve/api_context.h"
#include "serve/api_error.h"
#include "serve/awaited_reply.h"
#include "serve/route_answers.h"
#include "serve/small_trained_dalle.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// The routes of an API that serves models, without a server around them.
class ApiRoutesTest : public testing::Test {
 protected:
  ApiRoutesTest() { serve(small_trained_dalle(), small_trained_dalle(/*caption_dropout=*/0)); }

  void serve(TrainedDalle first, TrainedDalle second) {
    std::vector<ServedModel> models;
    for (TrainedDalle* dalle : {&first, &second})
      models.push_back(
          {.id = models.empty() ? "first" : "second",
           .created = 5,
           .engine = std::make_unique<GenerationEngine>(std::move(*dalle), EngineOptions{})});
    routes_ = Routes();
    api_ = std::make_unique<ApiContext>(std::move(models), store_, "http://example.org");
    add_image_routes(routes_, *api_);
    add_sdapi_routes(routes_, *api_);
    add_service_routes(routes_, *api_);
  }

  HttpResponse answer(HttpRequest request) {
    const auto reply = std::make_shared<AwaitedReply>();
    routes_.answer(std::move(request), reply);
    return reply->response();
  }

  HttpResponse get(const std::string& path) { return answer({.method = "GET", .path = path}); }

  HttpResponse generate(const std::string& json) {
    return answer(json_request("/v1/images/generations", json));
  }

  ImageStore store_{ImageStore::Limits{}};
  Routes routes_;
  std::unique_ptr<ApiContext> api_;
};

nlohmann::json body_of(const HttpResponse& response) {
  return nlohmann::json::parse(response.body);
}

/// A model that fails while it generates.
TrainedDalle broken_dalle() {
  TrainedDalle dalle = small_trained_dalle();
  const torch::NoGradGuard no_grad;
  for (at::Tensor& parameter : dalle.model->parameters())
    parameter.fill_(std::numeric_limits<float>::quiet_NaN());
  return dalle;
}

TEST_F(ApiRoutesTest, ErrorsHaveTheFormOfTheApi) {
  EXPECT_EQ(generate("{}").body,
            R"({"error":{"message":"prompt: empty; expected text",)"
            R"("type":"invalid_request_error","param":"prompt","code":"invalid_value"}})");
  EXPECT_EQ(get("/nothing").body,
            R"({"error":{"message":"no such route; see /openapi.json",)"
            R"("type":"invalid_request_error","param":null,"code":"not_found"}})");
  EXPECT_EQ(error_response(401, "no key").body,
            R"({"error":{"message":"no key",)"
            R"("type":"authentication_error","param":null,"code":"invalid_api_key"}})");
}

TEST_F(ApiRoutesTest, UnknownMethodsAreRefusedWithTheKnownOnes) {
  const HttpResponse response = answer({.method = "PUT", .path = "/sdapi/v1/options"});
  EXPECT_EQ(response.status, 405);
  EXPECT_EQ(header_of(response, "allow"), "GET, POST");
}

TEST_F(ApiRoutesTest, PathsAreLabelsOfTheirRoutes) {
  EXPECT_EQ(routes_.path_of("/v1/models/first"), "/v1/models/*");
  EXPECT_EQ(routes_.path_of("/v1/models"), "/v1/models");
  EXPECT_EQ(routes_.path_of("/v1/models/"), "");
  EXPECT_EQ(routes_.path_of("/nothing"), "");
}

TEST_F(ApiRoutesTest, AnswersWithTheImagesOfTheSeed) {
  const nlohmann::json json = body_of(generate(R"({"prompt": "a red circle", "n": 2, "seed": 3})"));
  TrainedDalle dalle = small_trained_dalle();
  const CaptionImages images{.caption = caption_tokens(dalle, "a red circle"), .count = 2};
  generate_codes(dalle.model, {&images, 1}, dalle.config.sample, {.seed = 3},
                 [&](size_t, int64_t image, const at::Tensor& codes) {
                   const RgbImage pixels = decode_image(dalle.vae, codes);
                   EXPECT_EQ(json["data"][image]["b64_json"],
                             base64(encode_image(pixels, ImageFormat::kPng)));
                 });
}

TEST_F(ApiRoutesTest, NamesTheModelThatWasUsedAndNeverTheRequested) {
  const HttpResponse known = generate(R"({"prompt": "a red circle", "model": "second"})");
  EXPECT_EQ(header_of(known, "x-dalle-model"), "second");
  EXPECT_EQ(body_of(known)["model"], "second");
  const HttpResponse unknown = generate(R"({"prompt": "a red circle", "model": "a\r\nb: c"})");
  EXPECT_EQ(header_of(unknown, "x-dalle-model"), "first");
  EXPECT_EQ(body_of(unknown)["model"], "first");
}

TEST_F(ApiRoutesTest, OnlyModelsThatCanRankTakeBestOf) {
  const nlohmann::json ranked =
      body_of(generate(R"({"prompt": "a red circle", "n": 2, "best_of": 3})"));
  EXPECT_GE(ranked["data"][0]["score"], ranked["data"][1]["score"]);
  const HttpResponse refused =
      generate(R"({"prompt": "a red circle", "best_of": 3, "model": "second"})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(body_of(refused)["error"]["param"], "best_of");
}

TEST_F(ApiRoutesTest, ImagesBehindUrlsAreThoseOfTheAnswer) {
  const nlohmann::json inlined = body_of(generate(R"({"prompt": "a red circle", "seed": 3})"));
  const nlohmann::json linked =
      body_of(generate(R"({"prompt": "a red circle", "seed": 3, "response_format": "url"})"));
  const auto url = linked["data"][0]["url"].get<std::string>();
  ASSERT_THAT(url, StartsWith("http://example.org/images/"));
  const HttpResponse image = get(url.substr(std::string("http://example.org").size()));
  EXPECT_EQ(image.content_type, "image/png");
  EXPECT_EQ(base64(image.body), inlined["data"][0]["b64_json"]);
  EXPECT_EQ(get("/images/none").status, 404);
}

TEST_F(ApiRoutesTest, AFailureIsReportedWithTheIdOfTheRequestAlone) {
  serve(broken_dalle(), small_trained_dalle());
  const HttpResponse response = generate(R"({"prompt": "a red circle"})");
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body,
            R"({"error":{"message":"internal error; see request test in the server's log",)"
            R"("type":"server_error","param":null,"code":null}})");
}

TEST_F(ApiRoutesTest, AFailureInAStreamIsAnEvent) {
  serve(broken_dalle(), small_trained_dalle());
  const HttpResponse response = generate(R"({"prompt": "a red circle", "stream": true})");
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, StartsWith("event: error\ndata: {\"error\":{\"message\":\"internal"));
}

TEST_F(ApiRoutesTest, NothingIsDoneForAClientThatHasLeft) {
  const auto reply = std::make_shared<AwaitedReply>();
  routes_.answer(json_request("/v1/images/generations",
                              R"({"prompt": "a red circle", "best_of": 512, "guidance": 3})"),
                 reply);
  reply->disconnect();
  const auto is_idle = [&] {
    const EngineStatus status = api_->models.front().engine->status();
    return status.active + status.queued == 0;
  };
  while (reply.use_count() > 1 || !is_idle()) std::this_thread::yield();
  EXPECT_LT(api_->models.front().engine->status().finished, 512);
}

TEST_F(ApiRoutesTest, EndsWhileRequestsAreInProgress) {
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j)
      routes_.answer(json_request("/v1/images/generations", R"({"prompt": "a red circle"})"),
                     std::make_shared<AwaitedReply>());
    serve(small_trained_dalle(), small_trained_dalle());
  }
  EXPECT_EQ(generate(R"({"prompt": "a red circle"})").status, 200);
}

TEST_F(ApiRoutesTest, MoreRequestsThanCanWaitAreRefused) {
  std::vector<std::shared_ptr<AwaitedReply>> replies;
  for (int i = 0; i < 500; ++i) {
    replies.push_back(std::make_shared<AwaitedReply>());
    routes_.answer(json_request("/v1/images/generations", "{}"), replies.back());
  }
  std::set<int> statuses;
  for (const auto& reply : replies) statuses.insert(reply->response().status);
  EXPECT_TRUE(statuses == (std::set{400, 503}) || statuses == std::set{400});
  EXPECT_EQ(generate("{}").status, 400);  // all places are free again
}

TEST_F(ApiRoutesTest, NotesTheTimesOfARequest) {
  const auto reply = std::make_shared<AwaitedReply>();
  routes_.answer(json_request("/v1/images/generations", R"({"prompt": "a red circle"})"), reply);
  EXPECT_EQ(reply->response().status, 200);
  EXPECT_THAT(reply->noted(),
              testing::MatchesRegex("queue [0-9.]+ s, generate [0-9.]+ s, decode [0-9.]+ s, "
                                    "encode [0-9.]+ s"));
}

TEST_F(ApiRoutesTest, MetricsCountRequestsAndPhases) {
  (void)generate(R"({"prompt": "a red circle", "n": 2})");
  // The engine counts an image after it has passed it on.
  while (api_->models.front().engine->status().finished < 2) std::this_thread::yield();
  api_->metrics.count("GET", "/health", 200, 0.5);
  api_->metrics.count("GET", "/health", 200, 0.25);
  api_->metrics.count("BREW", "", 405, 0.25);
  const std::string text = get("/metrics").body;
  for (const char* line :
       {"dalle_request_seconds_sum{method=\"GET\",route=\"/health\",status=\"200\"} 0.75\n",
        "dalle_request_seconds_count{method=\"GET\",route=\"/health\",status=\"200\"} 2\n",
        "dalle_request_seconds_count{method=\"other\",route=\"\",status=\"405\"} 1\n",
        "dalle_phase_seconds_count{phase=\"encode\"} 1\n",
        "dalle_images_total{model=\"first\"} 2\n", "dalle_codes_total{model=\"first\"} 32\n",
        "dalle_images_total{model=\"second\"} 0\n"})
    EXPECT_THAT(text, HasSubstr(line));
}

TEST_F(ApiRoutesTest, TheWebUisClientsChooseTheModel) {
  const auto checkpoint = [&] {
    return body_of(get("/sdapi/v1/options"))["sd_model_checkpoint"].get<std::string>();
  };
  EXPECT_EQ(checkpoint(), "first");
  const std::string request = R"({"sd_model_checkpoint": "second"})";
  EXPECT_EQ(answer(json_request("/sdapi/v1/options", request)).status, 200);
  EXPECT_EQ(checkpoint(), "second");
  const auto model_of = [&](const std::string& json) {
    return header_of(answer(json_request("/sdapi/v1/txt2img", json)), "x-dalle-model");
  };
  EXPECT_EQ(model_of(R"({"prompt": "a red circle"})"), "second");
  EXPECT_EQ(model_of(R"({"prompt": "a red circle",
                         "override_settings": {"sd_model_checkpoint": "first"}})"),
            "first");
  const HttpResponse unknown = answer(json_request(
      "/sdapi/v1/txt2img",
      R"({"prompt": "a red circle", "override_settings": {"sd_model_checkpoint": "third"}})"));
  EXPECT_EQ(unknown.status, 400);
}

}  // namespace
}  // namespace dalle
