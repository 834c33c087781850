// dalle-serve: serves trained DALL-E models over HTTP.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "command_line.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/loopback.h"
#include "core/stop_signal.h"
#include "experiment/evaluation/evaluated_model.h"
#include "experiment/trained/trained_dalle.h"
#include "generation_options.h"
#include "serve/api_context.h"
#include "serve/api_error.h"
#include "serve/api_routes.h"
#include "serve/engine/generation_engine.h"
#include "serve/http/access.h"
#include "serve/http/http_server.h"
#include "serve/http/image_store.h"
#include "serve/routes.h"
#include "serve_options.h"

namespace {

using namespace dalle;
namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kSignalCheck{100};
/// Replies in progress are awaited however long they take; a second signal ends that.
constexpr std::chrono::hours kGrace{24 * 365};

/// What loads without a key: a page, which asks for the key, and images whose names are secret.
bool is_open_path(std::string_view path) {
  if (path == "/" || path == "/health" || path == "/openapi.json" || path.starts_with("/images/"))
    return true;
  const bool is_of_page = path.ends_with(".js") || path.ends_with(".css");
  return is_of_page && path.find('/', 1) == path.npos;
}

AccessRules access_rules(const ServeOptions& options) {
  for (const std::string& origin : options.origins)
    if (!is_origin(origin))
      throw Error("--cors-origin {}: expected http[s]://HOST[:PORT], without a path", origin);
  if (!options.public_url.empty() && !is_origin(options.public_url))
    throw Error("--public-url {}: expected http[s]://HOST[:PORT], without a path",
                options.public_url);
  AccessRules rules{
      .keys = ApiKeys(find_api_keys(options)), .origins = options.origins, .is_open = is_open_path};
  std::vector<std::string> known = options.origins;
  known.push_back(options.public_url);
  if (is_loopback(options.http.host) && rules.keys.is_empty())
    rules.hosts = loopback_hosts(options.http.host, known);
  return rules;
}

/// The folder of a model's run.
fs::path run_folder(const fs::path& model) {
  return without_trailing_slash(fs::absolute(run_of_model(model)).lexically_normal());
}

ServedModel load_model(const fs::path& path, const ServeOptions& options) {
  TrainedDalle dalle = load_trained_dalle(path, find_device(options.device));
  const EngineOptions engine{.batch_size = options.decode.batch_size.value_or(0),
                             .queued_images = options.queued_images,
                             .decode = override_decoding(dalle.config.sample, options.decode),
                             .reranker = options.reranker,
                             .rank_by = options.rank_by};
  const auto written = std::chrono::file_clock::to_sys(fs::last_write_time(dalle.checkpoint));
  return {.id = run_folder(path).filename().string(),
          .created =
              std::chrono::duration_cast<std::chrono::seconds>(written.time_since_epoch()).count(),
          .engine = std::make_unique<GenerationEngine>(std::move(dalle), engine)};
}

std::vector<ServedModel> load_models(const std::vector<fs::path>& paths,
                                     const ServeOptions& options) {
  std::vector<ServedModel> models;
  for (const fs::path& path : paths) {
    models.push_back(load_model(path, options));
    const auto of_same_name = [&](const ServedModel& model) {
      return model.id == models.back().id;
    };
    if (std::ranges::count_if(models, of_same_name) > 1)
      throw Error(
          "--model {}: another model is also named {}; run folders must have different names",
          path.string(), models.back().id);
  }
  return models;
}

/// "http://127.0.0.1:8080"
std::string address_of(const std::string& host, uint16_t port) {
  const bool is_any = host == "0.0.0.0" || host == "::";
  char name[256] = "localhost";
  if (is_any) ::gethostname(name, sizeof name - 1);
  const std::string shown = is_any ? name : host.find(':') == host.npos ? host : "[" + host + "]";
  return fmt::format("http://{}:{}", shown, port);
}

void log_request(const HttpCompletion& completion) {
  std::string status = std::to_string(completion.status);
  if (completion.status == 0)
    status = "client disconnected";
  else if (!completion.is_complete)
    status += " incomplete";
  log_info("{} {} {} {:.3f} s{}{}{} from {}, id {}",
           completion.method.empty() ? "-" : completion.method,
           completion.target.empty() ? "-" : completion.target, status, completion.seconds,
           completion.note.empty() ? "" : " (", completion.note, completion.note.empty() ? "" : ")",
           completion.client, completion.id);
}

int serve(ServeOptions options) {
  if (options.public_url.ends_with('/')) options.public_url.pop_back();
  const AccessRules rules = access_rules(options);
  std::vector<fs::path> paths(options.models.begin(), options.models.end());
  if (paths.empty()) paths.push_back(find_model(""));
  const fs::path runs =
      options.runs.empty() ? run_folder(paths.front()).parent_path() : fs::path(options.runs);
  ImageStore store({});
  ApiContext api(load_models(paths, options), store);
  std::vector<std::string> served;
  for (const ServedModel& model : api.models)
    served.push_back(fmt::format("{} (step {})", model.id, model.engine->dalle().step));
  Routes routes;
  add_image_routes(routes, api);
  add_sdapi_routes(routes, api);
  add_service_routes(routes, api);
  add_page_routes(routes);
  add_run_routes(routes, runs);
  const HttpRefusal refusal = [](int status, const std::string& message) {
    return error_response(status, message);
  };

  options.http.admit = [&](const HttpRequest& head) {
    return answer_by_rules(rules, head, refusal);
  };

  const StopSignal stop;
  options.http.listening = [&](uint16_t port) {
    const std::string address = address_of(options.http.host, port);
    api.base_url = options.public_url.empty() ? address : options.public_url;
    log_info("serving {} at {}", fmt::join(served, ", "), address);
  };
  options.http.completed = [&](const HttpCompletion& completion) {
    log_request(completion);
    api.metrics.count(completion.method, routes.path_of(completion.path), completion.status,
                      completion.seconds);
  };
  HttpServer server(options.http,
                    with_access_rules(
                        rules,
                        [&](HttpRequest request, const std::shared_ptr<HttpReply>& reply) {
                          routes.answer(std::move(request), reply);
                        },
                        refusal),
                    refusal);
  while (!stop.requested()) std::this_thread::sleep_for(kSignalCheck);
  log_info("finishing the requests in progress; send another signal to exit immediately");
  server.stop(kGrace);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Serves trained DALL-E models over HTTP.", "dalle-serve");
  ServeOptions options;
  add_serve_options(app, options);
  const ToolText text{
      .examples =
          "  dalle-serve --model runs/shapes-demo\n"
          "  dalle-serve --model runs/x --model runs/y --port 9000\n"
          "  DALLE_API_KEY=... dalle-serve --model runs/x --host 0.0.0.0\n",
      .memory_advice = "lower --batch-size, use a smaller model, or close other programs"};
  dalle::run_tool(app, argc, argv, text, [&] { return serve(options); });
}
