#include "serve/openapi.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "core/ascii.h"
#include "core/build_info.h"
#include "serve/image_fields.h"
#include "serve/request_fields.h"
#include "serve/sdapi_fields.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

Json file_schema(bool is_form) {
  return is_form ? Json{{"type", "string"}, {"format", "binary"}}
                 : Json{{"type", "string"}, {"contentEncoding", "base64"}};
}

Json kind_schema(const RequestField& field, bool is_form) {
  switch (field.kind) {
    case FieldKind::kText: {
      Json schema{{"type", "string"}};
      if (std::isfinite(field.max)) schema["maxLength"] = static_cast<int64_t>(field.max);
      return schema;
    }
    case FieldKind::kInteger:
      return {{"type", "integer"}};
    case FieldKind::kNumber:
      return {{"type", "number"}};
    case FieldKind::kFlag:
      return {{"type", "boolean"}};
    case FieldKind::kChoice:
      return {{"type", "string"}, {"enum", split_words(field.choices)}};
    case FieldKind::kRectangle:
      return {{"type", "string"}, {"pattern", R"(^\d+,\d+,\d+,\d+$)"}};
    case FieldKind::kFile:
      return file_schema(is_form);
    case FieldKind::kFiles:
      return {{"type", "array"}, {"maxItems", 1}, {"items", file_schema(is_form)}};
    case FieldKind::kObject:
      return {{"type", "object"}};
  }
  throw Error("unknown kind of field {}", static_cast<int>(field.kind));
}

Json field_schema(const RequestField& field, bool is_form) {
  Json schema = kind_schema(field, is_form);
  const bool is_number = field.kind == FieldKind::kInteger || field.kind == FieldKind::kNumber;
  if (is_number && std::isfinite(field.min)) schema["minimum"] = field.min;
  if (is_number && std::isfinite(field.max)) schema["maximum"] = field.max;
  schema["description"] = field.help;
  return schema;
}

Json body_schema(std::span<const RequestField> fields, const std::vector<std::string>& required,
                 bool is_form) {
  Json properties = Json::object();
  for (const RequestField& field : fields) properties[field.name] = field_schema(field, is_form);
  Json schema{{"type", "object"}, {"properties", properties}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}

Json responses(const std::vector<std::string>& content_types) {
  Json content = Json::object();
  for (const std::string& type : content_types) content[type] = Json::object();
  const Json error{{"schema", {{"$ref", "#/components/schemas/Error"}}}};
  return {{"200", {{"description", "OK"}, {"content", content}}},
          {"default", {{"description", "An error"}, {"content", {{"application/json", error}}}}}};
}

Json get_operation(const char* summary, const char* content_type = "application/json",
                   const char* path_parameters = "") {
  Json operation{{"summary", summary}, {"responses", responses({content_type})}};
  for (const std::string& name : split_words(path_parameters))
    operation["parameters"].push_back(
        {{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}});
  return {{"get", operation}};
}

bool can_stream(std::span<const RequestField> fields) {
  return std::ranges::find(fields, "stream", &RequestField::name) != fields.end();
}

Json post_operation(const char* summary, std::span<const RequestField> fields,
                    const std::vector<std::string>& required) {
  std::vector<std::string> answers{"application/json"};
  if (can_stream(fields)) answers.emplace_back("text/event-stream");
  const Json content{
      {"application/json", {{"schema", body_schema(fields, required, /*is_form=*/false)}}},
      {"multipart/form-data", {{"schema", body_schema(fields, required, /*is_form=*/true)}}}};
  return {{"post",
           {{"summary", summary},
            {"requestBody", {{"required", true}, {"content", content}}},
            {"responses", responses(answers)}}}};
}

Json error_schema() {
  const Json text_or_null{{"type", {"string", "null"}}};
  const Json members{{"message", {{"type", "string"}}},
                     {"type", {{"type", "string"}}},
                     {"param", text_or_null},
                     {"code", text_or_null}};
  return {{"type", "object"},
          {"properties", {{"error", {{"type", "object"}, {"properties", members}}}}}};
}

Json paths() {
  Json paths;
  paths["/v1/images/generations"] =
      post_operation("Generate images from a prompt",
                     image_request_fields(ImageEndpoint::kGenerations), {"prompt"});
  paths["/v1/images/edits"] =
      post_operation("Generate images from a prompt, keeping part of an image",
                     image_request_fields(ImageEndpoint::kEdits), {"prompt", "image"});
  paths["/v1/images/variations"] =
      post_operation("Generate variations of an image",
                     image_request_fields(ImageEndpoint::kVariations), {"image"});
  paths["/images/{id}"] = get_operation("An image whose URL was in a response", "image/*", "id");
  paths["/v1/models"] = get_operation("The models");
  paths["/v1/models/{id}"] = get_operation("A model", "application/json", "id");
  paths["/v1/runs"] = get_operation("The runs in the folder that the page shows");
  paths["/v1/runs/{id}"] =
      get_operation("The curves and the images of a run", "application/json", "id");
  paths["/v1/runs/{id}/report.html"] = get_operation("The report of a run", "text/html", "id");
  paths["/v1/runs/{id}/images/{stage}/{file}"] =
      get_operation("A sample image of a run", "image/*", "id stage file");
  paths["/health"] = get_operation("Health check");
  paths["/metrics"] = get_operation("Metrics in the Prometheus text format", "text/plain");
  paths["/openapi.json"] = get_operation("This document");
  paths["/sdapi/v1/txt2img"] =
      post_operation("txt2img: generate images from a prompt, as in AUTOMATIC1111's web UI",
                     sdapi_request_fields(SdapiEndpoint::kTextToImage), {"prompt"});
  paths["/sdapi/v1/img2img"] =
      post_operation("img2img: starts from an image",
                     sdapi_request_fields(SdapiEndpoint::kImageToImage), {"prompt", "init_images"});
  paths["/sdapi/v1/options"] = get_operation("The default model");
  paths["/sdapi/v1/options"].update(
      post_operation("Select the default model", sdapi_option_fields(), {}));
  paths["/sdapi/v1/sd-models"] = get_operation("The models");
  paths["/sdapi/v1/samplers"] = get_operation("The only sampler");
  paths["/sdapi/v1/progress"] = get_operation("Progress of all requests");
  return paths;
}

}  // namespace

Json openapi_document() {
  return {{"openapi", "3.1.0"},
          {"info",
           {{"title", "dalle-serve"},
            {"version", build_info().version},
            {"description",
             "Compatible with OpenAI's Images API and with the API of AUTOMATIC1111's web UI. "
             "Unlisted fields are ignored."}}},
          // A server may have keys or none.
          {"security", {Json::object(), {{"bearer", Json::array()}}, {{"basic", Json::array()}}}},
          {"paths", paths()},
          {"components",
           {{"schemas", {{"Error", error_schema()}}},
            {"securitySchemes",
             {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
              {"basic", {{"type", "http"}, {"scheme", "basic"}}}}}}}};
}

}  // namespace dalle
