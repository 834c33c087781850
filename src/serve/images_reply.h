#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "serve/api_context.h"
#include "serve/api_error.h"
#include "serve/engine/engine_request.h"
#include "serve/http/http_exchange.h"
#include "serve/image_fields.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// Adds "x-dalle-model", which names the model that was used, to a response.
HttpResponse naming_model(HttpResponse response, const ServedModel& model);

/// How many times larger than the model's the images of an answer are.
/// @param side  of the model's image, in pixels
int64_t answered_enlargement(const ImageFields& fields, int64_t side);

/// An image as the file that a request asks for.
std::string encoded_image(const RgbImage& image, const ImageFields& fields);

/// Answers a request in the form of OpenAI's Images API, either when all images are complete or, in
/// a stream, with an event for each preview and each image. Used by one thread at a time.
class ImagesReply {
 public:
  /// @param request  of which the caption, the image prompt and the counts are answered
  ImagesReply(ApiContext& context, const ServedModel& model, ImageEndpoint endpoint,
              ImageFields fields, const GenerationRequest& request,
              std::shared_ptr<HttpReply> reply);

  void begin();
  void preview(int64_t image, int64_t number, const RgbImage& pixels);
  void add(const GeneratedImage& image);
  void finish(const GenerationTimes& times);
  void fail(const ApiError& error);

 private:
  using Json = nlohmann::ordered_json;

  /// Adds the time to the request's.
  std::string encode(const RgbImage& pixels);
  void send_event(const std::string& type, const Json& payload);
  /// What events say of all images.
  Json event_of(const std::string& type, int64_t image) const;
  Json usage(int64_t answered_images) const;
  Json answer();

  ApiContext& context_;
  const ServedModel& model_;
  std::string event_prefix_;  ///< "image_generation"
  ImageFields fields_;
  std::shared_ptr<HttpReply> reply_;
  int64_t created_;
  int64_t seed_;
  std::string revised_prompt_;  ///< empty: it is the request's
  int64_t text_tokens_;         ///< of the prompt
  int64_t image_tokens_;        ///< codes of the image prompt
  int64_t generated_codes_;
  std::vector<std::pair<int64_t, Json>> images_;  ///< by number, unless streamed
  double encode_s_ = 0;
};

}  // namespace dalle
