#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/base64.h"
#include "core/seconds.h"
#include "serve/answered_request.h"
#include "serve/api_context.h"
#include "serve/api_error.h"
#include "serve/api_routes.h"
#include "serve/engine_run.h"
#include "serve/generation_request.h"
#include "serve/image_fields.h"
#include "serve/images_reply.h"
#include "serve/sdapi_fields.h"

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSampler = "autoregressive";
constexpr double kUsualDenoising = 0.75;  // the web UI's

/// The id of a model by its title in sd-models.
std::string known_model(const ApiContext& context, const std::string& title) {
  for (const ServedModel& model : context.models)
    if (model.id == title) return model.id;
  throw wrong_field("sd_model_checkpoint", "unknown model; see /sdapi/v1/sd-models");
}

ImagePromptRequest parse_init_image(const RequestFields& fields) {
  ImagePromptRequest prompt;
  std::vector<std::string> images = fields.files("init_images");
  if (images.size() != 1)
    throw wrong_field("init_images", "found {} images, expected one", images.size());
  prompt.image = std::move(images.front());
  const double denoising = fields.number("denoising_strength").value_or(kUsualDenoising);
  prompt.mask = fields.file("mask");
  // The web UI regenerates the light pixels of a mask or, if any pixel is transparent, the opaque
  // ones.
  if (fields.integer("inpainting_mask_invert").value_or(0) == 0)
    prompt.mask_keeps = MaskKeeps::kTransparentOrDark;
  if (!prompt.mask) prompt.variation = denoising;
  return prompt;
}

/// A request in the terms of the Images API, and what of it is only answered.
struct SdapiFields {
  ImageFields images;
  Json parameters;  ///< as received, without files
};

SdapiFields parse_sdapi_fields(const ApiContext& context, SdapiEndpoint endpoint,
                               const HttpRequest& request) {
  const std::vector<RequestField> known = sdapi_request_fields(endpoint);
  const RequestFields fields(request, known);
  SdapiFields parsed;
  ImageFields& images = parsed.images;
  images.prompt = checked_prompt(fields.text("prompt").value_or(""));
  const std::string negative = fields.text("negative_prompt").value_or("");
  const int64_t seed = fields.integer("seed").value_or(-1);
  images.seed = seed >= 0 ? seed : random_seed();
  const int64_t batch_size = fields.integer("batch_size").value_or(1);
  const int64_t n_iter = fields.integer("n_iter").value_or(1);
  images.n = batch_size * n_iter;
  if (images.n > kMostImages)
    throw wrong_field("n_iter", "found {} images in total, expected at most {}", images.n,
                      kMostImages);
  if (*images.seed > std::numeric_limits<int64_t>::max() - images.n)
    throw wrong_field("seed", "too large for this many images");
  const auto width = fields.integer("width"), height = fields.integer("height");
  if (width || height)
    images.answer.size = ImageSize{width.value_or(*(width ? width : height)),
                                   height.value_or(*(width ? width : height))};
  images.sampling = sampling_overrides(fields);
  if (endpoint == SdapiEndpoint::kImageToImage) {
    images.image_prompt = parse_init_image(fields);
    images.image_field = "init_images";
  }
  if (const auto settings = fields.object("override_settings"))
    if (const auto model = settings->find("sd_model_checkpoint");
        model != settings->end() && model->is_string())
      images.model = known_model(context, model->get<std::string>());
  parsed.parameters = {{"prompt", images.prompt},
                       {"negative_prompt", negative},
                       {"seed", seed},
                       {"steps", fields.integer("steps").value_or(1)},
                       {"cfg_scale", fields.number("cfg_scale").value_or(1)},
                       {"sampler_name", fields.text("sampler_name").value_or(kSampler)},
                       {"batch_size", batch_size},
                       {"n_iter", n_iter}};
  return parsed;
}

/// The images of one request while they are generated.
struct SdapiReply {
  ApiContext& context;
  const ServedModel& model;
  ImageFields fields;
  Json parameters;
  std::shared_ptr<HttpReply> reply;
  std::vector<std::string> images = {};  ///< base64, by seed
  double encode_s = 0;

  void add(size_t number, const GeneratedImage& image) {
    const auto begin = std::chrono::steady_clock::now();
    images[number] = base64(encoded_image(image.pixels, fields));
    encode_s += seconds_since(begin);
  }

  Json info() const {
    Json info = parameters;
    std::vector<int64_t> seeds;
    for (int64_t i = 0; i < fields.n; ++i) seeds.push_back(*fields.seed + i);
    info["seed"] = *fields.seed;
    info["all_seeds"] = seeds;
    info["all_prompts"] = std::vector(images.size(), fields.prompt);
    info["all_negative_prompts"] = std::vector(images.size(), parameters["negative_prompt"]);
    info["sd_model_name"] = model.id;
    info["sd_model_hash"] = model.engine->dalle().hash.substr(0, 10);
    const int64_t side = model.engine->dalle().config.data.image_size;
    info["width"] = info["height"] = side * answered_enlargement(fields, side);
    info["sampler_name"] = kSampler;
    info["infotexts"] = Json::array();
    for (const int64_t seed : seeds)
      info["infotexts"].push_back(
          fmt::format("{}\nSeed: {}, Model: {}", fields.prompt, seed, model.id));
    info["without_effect"] = {"negative_prompt", "steps", "cfg_scale", "sampler_name"};
    return info;
  }

  void finish(const GenerationTimes& times) {
    context.metrics.record({.generation = times, .encode_s = encode_s}, *reply);
    const Json answer{
        {"images", std::move(images)}, {"parameters", parameters}, {"info", json_text(info())}};
    reply->send(naming_model(json_response(answer), model));
  }
};

void generate_sdapi_images(ApiContext& context, SdapiEndpoint endpoint, const HttpRequest& request,
                           const std::shared_ptr<HttpReply>& reply,
                           const AnsweredRequest& answered) {
  SdapiFields parsed = parse_sdapi_fields(context, endpoint, request);
  ImageFields& fields = parsed.images;
  const ServedModel& model =
      context.model_of(fields.model.empty() ? context.sdapi_model() : fields.model);
  std::vector<GenerationRequest> requests(
      fields.n, generation_request(fields, model.engine->dalle(), request.client));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].count = 1;
    requests[i].seed += static_cast<int64_t>(i);
  }
  fields.image_prompt = {};  // files of many megabytes, which are not needed any more
  const auto answer =
      std::make_shared<SdapiReply>(SdapiReply{.context = context,
                                              .model = model,
                                              .fields = std::move(fields),
                                              .parameters = std::move(parsed.parameters),
                                              .reply = reply});
  answer->images.resize(requests.size());
  RunEvents events{
      .image = [answer](size_t number, const GeneratedImage& image) { answer->add(number, image); },
      .done = [answer](const GenerationTimes& times) { answer->finish(times); },
      .failed =
          [answer](const ApiError& error) {
            answer->reply->send(naming_model(error_response(error), answer->model));
          }};
  run_requests(*model.engine, std::move(requests), std::move(events), answered);
}

void choose_sdapi_model(ApiContext& context, const HttpRequest& request) {
  const std::vector<RequestField> known = sdapi_option_fields();
  const RequestFields fields(request, known);
  if (const auto title = fields.text("sd_model_checkpoint"))
    context.set_sdapi_model(known_model(context, *title));
}

Json models_list(const ApiContext& context) {
  Json list = Json::array();
  for (const ServedModel& model : context.models) {
    const std::string& hash = model.engine->dalle().hash;
    list.push_back({{"title", model.id},
                    {"model_name", model.id},
                    {"hash", hash.substr(0, 10)},
                    {"sha256", hash},
                    {"filename", model.id},
                    {"config", nullptr}});
  }
  return list;
}

Json progress_of(const ApiContext& context) {
  int64_t queued = 0, active = 0;
  double seconds_left = 0;
  for (const ServedModel& model : context.models) {
    const EngineStatus status = model.engine->status();
    queued += status.queued;
    active += status.active;
    seconds_left += static_cast<double>(status.queued + status.active) * status.seconds_per_image;
  }
  // The web UI generates for one client; here, images of all are under way, and this is the part of
  // them that is being generated.
  const int64_t unfinished = queued + active;
  return {{"progress", unfinished == 0 ? 0.0 : static_cast<double>(active) / unfinished},
          {"eta_relative", seconds_left},
          {"state", {{"job_count", unfinished}, {"sampling_step", 0}, {"sampling_steps", 0}}},
          {"current_image", nullptr},
          {"textinfo", nullptr}};
}

}  // namespace

void add_sdapi_routes(Routes& routes, ApiContext& context) {
  const auto add = [&](const char* path, SdapiEndpoint endpoint) {
    add_worker_route(
        routes, context, path,
        [&context, endpoint](const auto& request, const auto& reply, const auto& answered) {
          generate_sdapi_images(context, endpoint, request, reply, answered);
        });
  };
  add("/sdapi/v1/txt2img", SdapiEndpoint::kTextToImage);
  add("/sdapi/v1/img2img", SdapiEndpoint::kImageToImage);
  routes.add("GET", "/sdapi/v1/options", [&context](const HttpRequest&, const auto& reply) {
    const std::string title = context.model_of(context.sdapi_model()).id;
    reply->send(json_response({{"sd_model_checkpoint", title}, {"samples_format", "png"}}));
  });
  add_worker_route(routes, context, "/sdapi/v1/options",
                   [&context](const auto& request, const auto& reply, const auto&) {
                     choose_sdapi_model(context, request);
                     reply->send(json_response(nullptr));
                   });
  routes.add("GET", "/sdapi/v1/sd-models", [&context](const HttpRequest&, const auto& reply) {
    reply->send(json_response(models_list(context)));
  });
  routes.add("GET", "/sdapi/v1/samplers", [](const HttpRequest&, const auto& reply) {
    reply->send(json_response(Json::array(
        {{{"name", kSampler}, {"aliases", Json::array()}, {"options", Json::object()}}})));
  });
  routes.add("GET", "/sdapi/v1/progress", [&context](const HttpRequest&, const auto& reply) {
    reply->send(json_response(progress_of(context)));
  });
}

}  // namespace dalle
