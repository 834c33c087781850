#include "serve_options.h"

#include "core/error.h"
#include "core/loopback.h"
#include "serve/http/access.h"

namespace dalle {
namespace {

constexpr const char* kKeyVariable = "DALLE_API_KEY";

void add_model_options(CLI::App& app, ServeOptions& options) {
  app.add_option(
         "--model", options.models,
         fmt::format(
             "run folder or checkpoint; may be repeated; the first model is the default; {}",
             kDefaultModel))
      ->allow_extra_args(false);
  app.add_option("--runs", options.runs,
                 "folder of the runs that the page shows; default: the one that holds the run of "
                 "the first model");
  app.add_option("--queue", options.queued_images,
                 "maximum number of waiting images per model; more are refused with status 429")
      ->transform(whole_number(1, 1'000'000))
      ->capture_default_str();
  add_decode_options(app, options.decode);
  app.add_option("--reranker", options.reranker,
                 "contrastive model that ranks the images of best_of: run folder, checkpoint, or "
                 "a CLIP model from dalle-import; default: that of the model's run");
  add_enum_option<RankBy>(
      app, "--rank-by", options.rank_by,
      "clip or likelihood, as for dalle-sample; default: clip if the run has a contrastive model; "
      "otherwise likelihood if trained with caption dropout; otherwise best_of is refused");
  add_device_option(app, options.device);
}

void add_http_options(CLI::App& app, ServeOptions& options) {
  app.add_option("--host", options.http.host,
                 "address to listen on; any but loopback requires an API key")
      ->capture_default_str();
  app.add_option("--port", options.http.port, "port to listen on; 0: any free one")
      ->transform(whole_number(0, 65535))
      ->capture_default_str();
  app.add_option("--public-url", options.public_url,
                 "URL at which clients reach the server through a proxy, such as "
                 "https://images.example.org, without a path; image URLs start with it");
  app.add_option("--api-key-file", options.api_key_file,
                 fmt::format("file with the API keys that clients may use, one per line; default: "
                             "the variable {}, or none",
                             kKeyVariable));
  app.add_option("--cors-origin", options.origins,
                 "origin whose pages may call the API from a browser, such as "
                 "https://example.org; may be repeated")
      ->allow_extra_args(false);
}

}  // namespace

void add_serve_options(CLI::App& app, ServeOptions& options) {
  add_model_options(app, options);
  add_http_options(app, options);
}

std::vector<std::string> find_api_keys(const ServeOptions& options) {
  std::vector<std::string> keys = options.api_key_file.empty()
                                      ? api_keys_of_variable(kKeyVariable)
                                      : read_api_keys(options.api_key_file);
  if (keys.empty() && !is_loopback(options.http.host))
    throw Error(
        "--host {}: other machines can reach this address, so an API key is required "
        "(--api-key-file, or the variable {})",
        options.http.host, kKeyVariable);
  return keys;
}

}  // namespace dalle
