#include "serve/images_reply.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <torch/types.h>

#include "core/base64.h"
#include "core/seconds.h"
#include "sample/caption_images.h"

namespace dalle {
namespace {

/// "png", "jpeg" or "webp", as the API names them.
std::string format_name(ImageFormat format) {
  return format == ImageFormat::kJpeg ? "jpeg" : std::string(to_string(format));
}

int64_t count_text_tokens(const TrainedDalle& dalle, const std::string& caption) {
  return std::min(std::ssize(dalle.tokenizer.encode(caption)),
                  dalle.config.layout().max_caption_tokens());
}

int64_t count_forced_codes(const GenerationRequest& request) {
  return request.forced.defined() ? request.forced.ne(kFreeCode).sum().item<int64_t>() : 0;
}

}  // namespace

HttpResponse naming_model(HttpResponse response, const ServedModel& model) {
  response.headers.emplace_back("x-dalle-model", model.id);
  return response;
}

int64_t answered_enlargement(const ImageFields& fields, int64_t side) {
  return fields.answer.size ? enlargement_for(*fields.answer.size, side, fields.n) : 1;
}

std::string encoded_image(const RgbImage& image, const ImageFields& fields) {
  return encode_image(enlarge(image, answered_enlargement(fields, image.width)),
                      fields.answer.format, fields.answer.quality);
}

ImagesReply::ImagesReply(ApiContext& context, const ServedModel& model, ImageEndpoint endpoint,
                         ImageFields fields, const GenerationRequest& request,
                         std::shared_ptr<HttpReply> reply)
    : context_(context),
      model_(model),
      event_prefix_(endpoint == ImageEndpoint::kEdits ? "image_edit" : "image_generation"),
      fields_(std::move(fields)),
      reply_(std::move(reply)),
      created_(static_cast<int64_t>(seconds_since_epoch())),
      seed_(request.seed),
      revised_prompt_(request.caption == fields_.prompt ? "" : request.caption),
      text_tokens_(count_text_tokens(model.engine->dalle(), request.caption)),
      image_tokens_(count_forced_codes(request)),
      generated_codes_(std::max(request.count, request.best_of) *
                       model.engine->dalle().config.layout().image_length()) {}

void ImagesReply::begin() {
  if (!fields_.is_streamed) return;
  HttpResponse head{.content_type = "text/event-stream",
                    .body = "",
                    .headers = {{"cache-control", "no-store"}, {"x-accel-buffering", "no"}}};
  reply_->begin_stream(naming_model(std::move(head), model_));
}

void ImagesReply::preview(int64_t image, int64_t number, const RgbImage& pixels) {
  const std::string type = event_prefix_ + ".partial_image";
  Json event = event_of(type, image);
  event["partial_image_index"] = number;
  event["b64_json"] = base64(encode(pixels));
  send_event(type, event);
}

void ImagesReply::add(const GeneratedImage& image) {
  std::string file = encode(image.pixels);
  if (fields_.is_streamed) {
    const std::string type = event_prefix_ + ".completed";
    Json event = event_of(type, image.image);
    if (image.score) event["score"] = *image.score;
    event["usage"] = usage(1);
    event["b64_json"] = base64(file);
    if (!fields_.safety_identifier.empty()) event["safety_identifier"] = fields_.safety_identifier;
    return send_event(type, event);
  }
  Json entry;
  if (fields_.as_url) {
    const std::string type = "image/" + format_name(fields_.answer.format);
    entry["url"] =
        fmt::format("{}/images/{}", context_.base_url, context_.store.add(std::move(file), type));
  } else {
    entry["b64_json"] = base64(file);
  }
  if (!revised_prompt_.empty()) entry["revised_prompt"] = revised_prompt_;
  entry["image"] = image.image;
  if (image.score) entry["score"] = *image.score;
  images_.emplace_back(image.image, std::move(entry));
}

void ImagesReply::finish(const GenerationTimes& times) {
  context_.metrics.record({.generation = times, .encode_s = encode_s_}, *reply_);
  if (!fields_.is_streamed) return reply_->send(naming_model(json_response(answer()), model_));
  reply_->write("data: [DONE]\n\n");
  reply_->end();
}

void ImagesReply::fail(const ApiError& error) {
  if (!fields_.is_streamed) return reply_->send(naming_model(error_response(error), model_));
  send_event("error", error_body(error));
  reply_->end();
}

std::string ImagesReply::encode(const RgbImage& pixels) {
  const auto begin = std::chrono::steady_clock::now();
  std::string file = encoded_image(pixels, fields_);
  encode_s_ += seconds_since(begin);
  return file;
}

void ImagesReply::send_event(const std::string& type, const Json& payload) {
  reply_->write(fmt::format("event: {}\ndata: {}\n\n", type, json_text(payload)));
}

ImagesReply::Json ImagesReply::event_of(const std::string& type, int64_t image) const {
  const int64_t of_model = model_.engine->dalle().config.data.image_size;
  const int64_t side = of_model * answered_enlargement(fields_, of_model);
  return {{"type", type},
          {"created_at", created_},
          {"size", fmt::format("{0}x{0}", side)},
          {"quality", fields_.quality},
          {"background", "opaque"},
          {"output_format", format_name(fields_.answer.format)},
          {"model", model_.id},
          {"seed", seed_},
          {"image", image}};
}

ImagesReply::Json ImagesReply::usage(int64_t answered_images) const {
  const int64_t input = text_tokens_ + image_tokens_;
  const int64_t output = generated_codes_ * answered_images / fields_.n;
  return {
      {"input_tokens", input},
      {"input_tokens_details", {{"text_tokens", text_tokens_}, {"image_tokens", image_tokens_}}},
      {"output_tokens", output},
      {"output_tokens_details", {{"text_tokens", 0}, {"image_tokens", output}}},
      {"total_tokens", input + output}};
}

ImagesReply::Json ImagesReply::answer() {
  if (fields_.best_of == 0)
    std::ranges::stable_sort(images_, {}, [](const auto& entry) { return entry.first; });
  Json json = event_of("", 0);
  json.erase("type");
  json.erase("image");
  json.erase("created_at");
  Json data = Json::array();
  for (auto& [number, entry] : images_) data.push_back(std::move(entry));
  json["created"] = created_;
  json["data"] = std::move(data);
  json["usage"] = usage(fields_.n);
  if (!fields_.safety_identifier.empty()) json["safety_identifier"] = fields_.safety_identifier;
  return json;
}

}  // namespace dalle
