#include <string>
#include <string_view>

#include "serve/api_context.h"
#include "serve/api_error.h"
#include "serve/api_routes.h"
#include "serve/image_fields.h"
#include "serve/openapi.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

/// What a page or script needs to know of a model to ask for its images.
Json model_details(const GenerationEngine& engine) {
  const TrainedDalle& dalle = engine.dalle();
  Json sampling = Json::object();
  SamplingConfig::fields(dalle.config.sample, [&](std::string_view key, const auto& value,
                                                  const Field&) { sampling[key] = value; });
  return {{"image_size", dalle.config.data.image_size},
          {"grid", dalle.config.layout().grid_height},
          {"step", dalle.step},
          {"checkpoint", dalle.checkpoint.string()},
          {"manifest", dalle.hash},
          {"caption_tokens", dalle.config.layout().max_caption_tokens()},
          {"max_caption_bytes", kMostPromptBytes},
          {"max_n", kMostImages},
          {"max_best_of", kMostBestOf},
          {"max_partial_images", kMostPreviews},
          {"count", dalle.config.sample.count},
          {"captions", dalle.config.sample.captions},
          {"sampling", sampling},
          {"guidance_trained", dalle.config.dalle.train.caption_dropout > 0},
          {"can_rerank", engine.has_reranker()},
          {"reranker", engine.reranker_name()},
          {"reranker_model", engine.reranker_model().string()}};
}

Json model_entry(const ServedModel& model) {
  return {{"id", model.id},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "dalle"},
          {"dalle", model_details(*model.engine)}};
}

void send_model(const ApiContext& context, const std::string& id, HttpReply& reply) {
  for (const ServedModel& model : context.models)
    if (model.id == id) return reply.send(json_response(model_entry(model)));
  throw ApiError(404, "there is no such model; /v1/models lists them", "model");
}

Json health(const ApiContext& context) {
  Json models = Json::array();
  for (const ServedModel& model : context.models) models.push_back(model.id);
  return {{"status", "ok"}, {"models", models}};
}

}  // namespace

void add_service_routes(Routes& routes, ApiContext& context) {
  routes.add("GET", "/v1/models", [&context](const HttpRequest&, const auto& reply) {
    Json list = Json::array();
    for (const ServedModel& model : context.models) list.push_back(model_entry(model));
    reply->send(json_response({{"object", "list"}, {"data", list}}));
  });
  routes.add("GET", "/v1/models/*", [&context](const HttpRequest& request, const auto& reply) {
    send_model(context, request.path.substr(std::string_view("/v1/models/").size()), *reply);
  });
  routes.add("GET", "/health", [&context](const HttpRequest&, const auto& reply) {
    reply->send(json_response(health(context)));
  });
  routes.add("GET", "/metrics", [&context](const HttpRequest&, const auto& reply) {
    reply->send({.status = 200,
                 .content_type = "text/plain; version=0.0.4; charset=utf-8",
                 .body = context.metrics.text(context.models)});
  });
  routes.add("GET", "/openapi.json", [](const HttpRequest&, const auto& reply) {
    reply->send(json_response(openapi_document()));
  });
}

}  // namespace dalle
