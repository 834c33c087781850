#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "serve/answered_request.h"
#include "serve/api_context.h"
#include "serve/api_error.h"
#include "serve/api_routes.h"
#include "serve/engine_run.h"
#include "serve/generation_request.h"
#include "serve/image_fields.h"
#include "serve/images_reply.h"

namespace dalle {
namespace {

/// Parses a request, decodes its image, and gives it to the engine.
void generate_images_for(ApiContext& context, ImageEndpoint endpoint, const HttpRequest& request,
                         const std::shared_ptr<HttpReply>& reply, const AnsweredRequest& answered) {
  ImageFields fields = parse_image_fields(request, endpoint);
  const ServedModel& model = context.model_of(fields.model);
  if (fields.best_of > 0 && !model.engine->has_reranker())
    throw wrong_field("best_of", "the model {} cannot rank images", model.id);
  GenerationRequest generation = generation_request(fields, model.engine->dalle(), request.client);
  fields.image_prompt = {};  // files of many megabytes, which are not needed any more
  const auto answer =
      std::make_shared<ImagesReply>(context, model, endpoint, std::move(fields), generation, reply);
  RunEvents events{.image = [answer](size_t, const GeneratedImage& image) { answer->add(image); },
                   .done = [answer](const GenerationTimes& times) { answer->finish(times); },
                   .failed = [answer](const ApiError& error) { answer->fail(error); }};
  if (generation.previews > 0)
    events.preview = [answer](size_t, int64_t image, int64_t number, const RgbImage& pixels) {
      answer->preview(image, number, pixels);
    };
  std::vector<GenerationRequest> requests;
  requests.push_back(std::move(generation));
  const std::string counting_field = requests.front().best_of > 0 ? "best_of" : "n";
  try {
    run_requests(*model.engine, std::move(requests), std::move(events), answered);
  } catch (const QueueFull&) {
    throw;
  } catch (const Error& error) {  // only their number has not been checked yet
    throw wrong_field(counting_field, "{}", error.what());
  }
  answer->begin();  // the events come later, in other tasks
}

void send_stored_image(const ApiContext& context, const HttpRequest& request, HttpReply& reply) {
  constexpr std::string_view kFolder = "/images/";
  const auto image = context.store.find(std::string_view(request.path).substr(kFolder.size()));
  if (!image) throw ApiError(404, "there is no such image; images expire");
  reply.send({.status = 200,
              .content_type = image->content_type,
              .body = image->bytes,
              .headers = {{"cache-control", "private, max-age=3600, immutable"}}});
}

}  // namespace

void add_image_routes(Routes& routes, ApiContext& context) {
  const auto add = [&](const char* path, ImageEndpoint endpoint) {
    add_worker_route(
        routes, context, path,
        [&context, endpoint](const auto& request, const auto& reply, const auto& answered) {
          generate_images_for(context, endpoint, request, reply, answered);
        });
  };
  add("/v1/images/generations", ImageEndpoint::kGenerations);
  add("/v1/images/edits", ImageEndpoint::kEdits);
  add("/v1/images/variations", ImageEndpoint::kVariations);
  routes.add("GET", "/images/*", [&context](const HttpRequest& request, const auto& reply) {
    send_stored_image(context, request, *reply);
  });
}

}  // namespace dalle
